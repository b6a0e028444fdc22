# Shows streams: characters that are never cut, pings while silent, many
# tokens, and nothing of a stream in an answer that is not streamed.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start;

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => <<'_CONF_') if !defined $block->http_config;
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; }
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json")
        if !defined $block->more_headers;
});

run_tests();

__DATA__

=== TEST 1: three tokens, one chunk each when they come one by one
--- request
POST /v1/completions
{"model":"echo","prompt":"!delay_ms=20 abcdefghijkl","stream":true}
--- response_body_like eval
qr/"text":"abcd".*\n\n.*"text":"efgh".*\n\n.*"text":"ijkl".*\n\n.*"finish_reason":"stop".*\n\ndata: \[DONE\]\n\n$/s



=== TEST 2: quotes, backslashes, controls
--- request
POST /v1/completions
{"model":"echo","prompt":"a\"b\\c\n\u0001","stream":true}
--- response_body_like eval
qr/"text":"a\\"b\\\\".*"text":"c\\n\\u0001"/s



=== TEST 3: characters are whole in every chunk
--- request
POST /v1/completions
{"model":"echo","prompt":"ä€😀ä€😀","stream":true}
--- response_body_like eval
qr/\[DONE\]\n\n$/s
--- response_body_unlike eval
qr/\xef\xbf\xbd|\\ufffd/s



=== TEST 4: a long stream
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=20000 abcd","stream":true,"stream_options":{"include_usage":true}}
--- response_body_like eval
qr/"completion_tokens":20000,.*\n\ndata: \[DONE\]\n\n$/s



=== TEST 5: the same, whole
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=20000 abcd"}
--- response_body_like eval
qr/"text":"(?:abcd){20000}"/s



=== TEST 6: a silent stream is kept alive
--- config
    location /v1/ { axion_pass llm; axion_keepalive_ping 30ms; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!first_delay_ms=2000 abcd","stream":true}
--- response_body_like eval
qr/: ping\n\n: ping\n\n.*"text":"abcd"/s



=== TEST 7: unless nobody wants that
--- config
    location /v1/ { axion_pass llm; axion_keepalive_ping off; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!first_delay_ms=200 abcd","stream":true}
--- response_body_unlike: : ping



=== TEST 8: an answer that is not streamed has no pings
--- config
    location /v1/ { axion_pass llm; axion_keepalive_ping 30ms; axion_timeout accept=30ms; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!accept_delay_ms=200 abcd"}
--- response_headers_like
Content-Length: \d+
--- response_body_unlike: : ping



=== TEST 9: late acceptance: 200 and a comment first
--- config
    location /v1/ { axion_pass llm; axion_timeout accept=50ms; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!accept_delay_ms=2000 abcd","stream":true}
--- response_body_like eval
qr/^: ping\n\n.*"text":"abcd".*\[DONE\]\n\n$/s



=== TEST 10: the header waits for acceptance, so a late refusal has its status
--- request
POST /v1/completions
{"model":"echo","prompt":"!accept_delay_ms=200 !error=QUEUE_FULL abcd","stream":true}
--- error_code: 503



=== TEST 11: ping and slow tokens mixed, every token there
--- config
    location /v1/ { axion_pass llm; axion_keepalive_ping 20ms; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!delay_ms=500 abcdefghijkl","stream":true}
--- response_body_like eval
qr/\A(?=.*^: ping$).*"text":"abcd".*"text":"efgh".*"text":"ijkl".*\[DONE\]/sm



=== TEST 12: gzip of the stream's type leaves it whole
--- config
    location /v1/ { axion_pass llm; gzip on; gzip_types text/event-stream; gzip_min_length 1; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=100 abcd","stream":true}
--- response_body_like eval
qr/\[DONE\]\n\n$/s



=== TEST 13: limit_rate slows it, nothing is lost
--- config
    location /v1/ { axion_pass llm; limit_rate 60k; axion_buffer 4k; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=1000 abcd","stream":true,"stream_options":{"include_usage":true}}
--- response_body_like eval
qr/"completion_tokens":1000,.*\[DONE\]\n\n$/s
--- timeout: 10
