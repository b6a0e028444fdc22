# Shows back-pressure: a client that takes little makes the engine pause its
# stream and go on, without a byte lost; an answer that is not streamed never
# does.  limit_rate is the slow reader here; sockets that nobody reads are in
# tests/nginx/test_slow_reader.py.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start;

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => <<'_CONF_');
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; axion_buffer 4k; limit_rate 50k; }
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json");
});

run_tests();

__DATA__

=== TEST 1: paused, resumed, whole
--- config
    location /v1/ { axion_pass llm; axion_buffer 4k; limit_rate 200k; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=1000 !bytes=400 abcd","stream":true,"stream_options":{"include_usage":true}}
--- timeout: 30
--- response_body_like eval
qr/"completion_tokens":1000,.*\n\ndata: \[DONE\]\n\n$/s
--- error_log
axion: paused with
axion: resumed with



=== TEST 2: not streamed: never paused
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=20000 abcd"}
--- timeout: 30
--- response_body_like eval
qr/"text":"(?:abcd){20000}"/
--- no_error_log
axion: paused with



=== TEST 3: a larger buffer takes it all
--- config
    location /v1/ { axion_pass llm; axion_buffer 4m; limit_rate 50k; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=1000 abcd","stream":true}
--- timeout: 30
--- response_body_like eval
qr/\[DONE\]\n\n$/
--- no_error_log
axion: paused with
