# Shows what clients get when the engine dies or hangs, and that nginx finds
# it again without a reload.  Restarts while requests wait:
# tests/nginx/test_engine_death.py.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

our $engine = AxionEngine->start;

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => <<'_CONF_') if !defined $block->http_config;
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; axion_timeout connect=200ms stall=1s; }
    location /patient/v1/ { axion_pass llm; axion_timeout connect=60s; }
    location = /metrics { axion_metrics; }
    location = /status { axion_status; }
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json")
        if !defined $block->more_headers;
});

no_shuffle();
run_tests();

__DATA__

=== TEST 1: it dies in a stream
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=100 !delay_ms=10 !die_after=3 abcd","stream":true}
--- error_code: 200
--- response_body_like eval
qr/"text":"abcd".*data: \{"error":\{"message":"[^"]+","type":"server_error","param":null,"code":"engine_lost"\}\}\n\n$/s
--- error_log
axion: lost engine



=== TEST 2: while it is gone, 503
--- request
POST /v1/completions
{"model":"echo","prompt":"abcd","stream":true}
--- error_code: 503
--- response_body_like: "code":"engine_unavailable"



=== TEST 3: the site and the status go on
--- request eval
["GET /status", "GET /status?ready", "GET /metrics"]
--- error_code eval
[200, 503, 200]
--- response_body_like eval
["\"ready\":false", "\"state\":\"unavailable\"", "axion_engine_losses_total"]



=== TEST 4: it is back
--- init
$main::engine->restart;
--- request
POST /patient/v1/completions
{"model":"echo","prompt":"abcd"}
--- error_code: 200



=== TEST 5: it dies in an answer that is not streamed
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=100 !delay_ms=10 !die_after=3 abcd"}
--- error_code: 502
--- response_headers_like
Retry-After: \d+
--- response_body_like: "code":"engine_lost"



=== TEST 6: it hangs in a stream
--- init
$main::engine->restart;
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=100 !delay_ms=10 !hang_after=3 abcd","stream":true}
--- response_body_like eval
qr/"text":"abcd".*"code":"engine_stalled"\}\}\n\n$/s
--- error_log
axion: lost engine
the engine makes no progress



=== TEST 7: a hung engine takes no new requests
--- request
POST /v1/completions
{"model":"echo","prompt":"abcd"}
--- error_code: 504
--- response_body_like: "code":"engine_stalled"



=== TEST 8: a new one does
--- init
$main::engine->kill;
$main::engine->restart;
--- request
POST /patient/v1/completions
{"model":"echo","prompt":"abcd"}
--- error_code: 200



=== TEST 9: one stream that waits is no hung engine
--- request
POST /v1/completions
{"model":"echo","prompt":"!first_delay_ms=2500 abcd","stream":true}
--- response_body_like eval
qr/\[DONE\]\n\n$/
--- no_error_log
axion: lost engine
