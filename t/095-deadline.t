# Shows `axion_timeout first=`: what waiting for an engine leaves of it goes
# with the request, and a request for which nothing is left is refused by that
# name, not sent.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Test::More ();
use AxionEngine;

my $engine = AxionEngine->start;

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => <<'_CONF_') if !defined $block->http_config;
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
    axion_upstream gone { engine unix:/nonexistent/axion.sock; }
    axion_timeout connect=60s;
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json")
        if !defined $block->more_headers;
});

no_shuffle();
run_tests();

# However often the two that are refused for now come again.
my ($none, $hour, @again) =
    $engine->log_text =~ /submit .* deadline_ms=(\d+)/g;
Test::More::is($none, 0, 'without it there is no deadline');
Test::More::ok($hour > 3_000_000 && $hour <= 3_600_000, 'an hour is one');
Test::More::ok(!grep({ $again[$_] >= $again[$_ - 1] } 1 .. $#again),
    'less time each time');
Test::More::ok(!grep({ $_ == 0 } @again), 'and never without any');

__DATA__

=== TEST 1: none by default
--- config
    location /v1/ { axion_pass llm; }
--- request
POST /v1/completions
{"model":"echo","prompt":"abcd"}
--- error_code: 200



=== TEST 2: given to the engine, inherited alone
--- config
    axion_timeout first=1h;
    location /v1/ { axion_pass llm; axion_timeout stall=5s; }
--- request
POST /v1/completions
{"model":"echo","prompt":"abcd"}
--- error_code: 200



=== TEST 3: an engine that goes on saying that it loads, as long as connect=
--- config
    location /v1/ { axion_pass llm; axion_timeout first=30m connect=500ms; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!error=ENGINE_LOADING abcd"}
--- timeout: 30
--- error_code: 503
--- response_body_like: "code":"(model_loading|engine_unavailable)"



=== TEST 4: and as long as first=
--- config
    location /v1/ { axion_pass llm; axion_timeout first=200ms; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!error=ENGINE_LOADING abcd"}
--- timeout: 30
--- error_code: 503
--- response_headers_like
Retry-After: \d+
--- response_body_like: "code":"deadline_exceeded"
--- error_log
axion: DEADLINE



=== TEST 5: no engine: nobody waits for one beyond it
--- config
    location /v1/ { axion_pass gone; axion_timeout first=50ms; }
--- request
POST /v1/completions
{"model":"echo","prompt":"abcd"}
--- timeout: 30
--- error_code: 503
--- response_body_like: "code":"deadline_exceeded"



=== TEST 6: streamed: the status as well
--- config
    location /v1/ { axion_pass gone; axion_timeout first=50ms; }
--- request
POST /v1/chat/completions
{"model":"echo","messages":[{"role":"user","content":"a"}],"stream":true}
--- timeout: 30
--- error_code: 503
--- response_body_like: "code":"deadline_exceeded"



=== TEST 7: where connect= is less, it says why
--- config
    location /v1/ { axion_pass gone; axion_timeout first=60s connect=50ms; }
--- request
POST /v1/completions
{"model":"echo","prompt":"abcd"}
--- timeout: 30
--- error_code: 503
--- response_body_like: "code":"engine_unavailable"



=== TEST 8: a list of models has no first token
--- config
    location /v1/ { axion_pass gone; axion_timeout first=10ms connect=100ms; }
--- request
GET /v1/models
--- error_code: 503
--- response_body_like: "code":"engine_unavailable"
