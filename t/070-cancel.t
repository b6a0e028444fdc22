# Shows that a client which goes away frees its sequence: while it streams, in
# prefill, before acceptance, while it waits for an engine, and when its answer
# is not streamed.  The engine's own log is asked at the end.

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
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; }
    location /gone/v1/ { axion_pass gone; axion_timeout connect=60s; }
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json")
        if !defined $block->more_headers;
});

no_shuffle();
run_tests();

Test::More::ok($engine->wait_for_log(qr/(?:^echo: .* cancel .*\n(?s:.*?)){4}/m, 30),
    'the engine was told of four cancels');
Test::More::unlike($engine->log_text, qr/ done reason=stop tokens=1000/,
    'no cancelled answer was generated to its end');

__DATA__

=== TEST 1: while it streams
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=1000 !delay_ms=500 abcd","stream":true}
--- timeout: 100ms
--- abort
--- ignore_response
--- error_log
axion: client is gone
--- no_error_log
[alert]



=== TEST 2: in prefill
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=1000 !first_delay_ms=60000 abcd","stream":true}
--- timeout: 100ms
--- abort
--- ignore_response
--- error_log
axion: client is gone



=== TEST 3: before it is accepted
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=1000 !accept_delay_ms=60000 abcd","stream":true}
--- timeout: 100ms
--- abort
--- ignore_response
--- error_log
axion: client is gone



=== TEST 4: when the answer is not streamed
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=1000 !delay_ms=500 abcd"}
--- timeout: 100ms
--- abort
--- ignore_response
--- error_log
axion: client is gone



=== TEST 5: while it waits for an engine
--- request
POST /gone/v1/completions
{"model":"echo","prompt":"abcd"}
--- timeout: 100ms
--- abort
--- ignore_response
--- error_log
axion: client is gone



=== TEST 6: while it waits for the models of one
--- request
GET /gone/v1/models
--- timeout: 100ms
--- abort
--- ignore_response
--- error_log
axion: client is gone



=== TEST 7: while the body is read
--- raw_request eval
"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
--- timeout: 100ms
--- abort
--- ignore_response
--- no_error_log
axion: submitted
[alert]



=== TEST 8: the next request is served
--- request
POST /v1/completions
{"model":"echo","prompt":"abcd"}
--- response_body_like: "text":"abcd"
