# Shows the lines of axion_upstream that choose an engine or another model,
# and which of them are refused.  What several engines do: tests/nginx/
# test_routing.py.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start(args => ['--model', 'small']);

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ {
        axion_pass llm;
        add_header X-Served $axion_served_model;
    }
    location = /metrics { axion_metrics; }
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json")
        if !defined $block->more_headers && defined $block->request
           && $block->request =~ /^POST/;
});

run_tests();

__DATA__

=== TEST 1: another model stands in, and the answer says what was asked
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; fallback big medium small; }
--- request
POST /v1/completions
{"model":"big","prompt":"abcd"}
--- response_headers
X-Served: small
--- response_body_like: "model":"big".*"text":"abcd"



=== TEST 2: a model without a line has none
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; fallback big small; }
--- request
POST /v1/completions
{"model":"medium","prompt":"abcd"}
--- error_code: 404



=== TEST 3: the model itself where it is there
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; fallback small big; }
--- request
POST /v1/completions
{"model":"small","prompt":"abcd"}
--- response_headers
X-Served: small



=== TEST 4: nobody has any of them
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; fallback big medium; }
--- request
POST /v1/completions
{"model":"big","prompt":"abcd"}
--- error_code: 404



=== TEST 5: affinity with one engine changes nothing
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; affinity 1k; }
--- request eval
"POST /v1/completions\n" . '{"model":"small","prompt":"' . ("abcd" x 200) . '"}'
--- response_body_like eval
qr/(?:abcd){200}/



=== TEST 6: a fallback on nothing
--- http_config
    axion_upstream llm { engine unix:/a; fallback big; }
--- must_die
--- error_log
invalid number of parameters of "fallback"



=== TEST 7: a fallback on itself
--- http_config
    axion_upstream llm { engine unix:/a; fallback big small big; }
--- must_die
--- error_log
invalid model "big" in "fallback"



=== TEST 8: two fallbacks of one model
--- http_config
    axion_upstream llm { engine unix:/a; fallback big small; fallback big tiny; }
--- must_die
--- error_log
duplicate fallback of "big"



=== TEST 9: too many
--- http_config
    axion_upstream llm { engine unix:/a; fallback a b c d e f g h i; }
--- must_die
--- error_log
invalid number of parameters of "fallback"



=== TEST 10: an empty name
--- http_config
    axion_upstream llm { engine unix:/a; fallback "" a; }
--- must_die
--- error_log
invalid model "" in "fallback"



=== TEST 11: affinity that is too little
--- http_config
    axion_upstream llm { engine unix:/a; affinity 255; }
--- must_die
--- error_log
invalid affinity "255", it must be off or 256 to 16384 bytes



=== TEST 12: affinity that is no size
--- http_config
    axion_upstream llm { engine unix:/a; affinity on; }
--- must_die
--- error_log
invalid affinity "on"



=== TEST 13: affinity twice
--- http_config
    axion_upstream llm { engine unix:/a; affinity off; affinity 1k; }
--- must_die
--- error_log
duplicate "affinity"



=== TEST 14: parameters of affinity
--- http_config
    axion_upstream llm { engine unix:/a; affinity; }
--- must_die
--- error_log
invalid number of parameters of "affinity"



=== TEST 15: engines by a pattern
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET*; }
--- request
POST /v1/completions
{"model":"small","prompt":"abcd"}
--- response_body_like: "text":"abcd"



=== TEST 16: a pattern in a directory's name
--- http_config
    axion_upstream llm { engine unix:/run/ax*/a.sock; }
--- must_die
--- error_log
invalid engine "unix:/run/ax*/a.sock", only the last part of its path may be a pattern



=== TEST 17: a pattern twice
--- http_config
    axion_upstream llm { engine unix:/a/*; engine unix:/a/*; }
--- must_die
--- error_log
duplicate engine "unix:/a/*"



=== TEST 18: an interval that is too short
--- http_config
    axion_upstream llm { engine unix:/a/* interval=10ms; }
--- must_die
--- error_log
invalid "interval=10ms", it must be between 200ms and 1h



=== TEST 19: an interval where nothing is looked for
--- http_config
    axion_upstream llm { engine unix:/a/b interval=1s; }
--- must_die
--- error_log
invalid number of parameters of "engine"



=== TEST 20: something else than an interval
--- http_config
    axion_upstream llm { engine unix:/a/* every=1s; }
--- must_die
--- error_log
unknown parameter "every=1s" of "engine"
