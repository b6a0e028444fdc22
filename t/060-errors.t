# Shows that whatever fails ends in one of the table's errors: with its status
# before the first byte, as an event after it, and nginx's own refusals in
# JSON as well.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start;

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => <<'_CONF_') if !defined $block->http_config;
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
    axion_upstream gone { engine unix:/nonexistent/axion.sock; }
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; }
    location /gone/v1/ { axion_pass gone; axion_timeout connect=100ms; }
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json")
        if !defined $block->more_headers;
});

run_tests();

__DATA__

=== TEST 1: an engine's refusal, streamed: its own status, no stream
--- request
POST /v1/completions
{"model":"echo","prompt":"!error=QUEUE_FULL !retry_after_ms=2500 abcd","stream":true}
--- error_code: 503
--- response_headers
Retry-After: 3
Content-Type: application/json
--- response_body_like: "type":"server_error","param":null,"code":"overloaded"
--- error_log
axion: QUEUE_FULL



=== TEST 2: not streamed
--- request
POST /v1/completions
{"model":"echo","prompt":"!error=LEASE_TOO_SMALL abcd"}
--- error_code: 429
--- response_headers
Retry-After: 1
--- response_body_like: "type":"insufficient_quota"



=== TEST 3: no Retry-After where a retry cannot help
--- request
POST /v1/completions
{"model":"echo","prompt":"!error=TEMPLATE_FAILED abcd"}
--- error_code: 400
--- response_headers
! Retry-After
--- response_body_like: "code":"chat_template_error"



=== TEST 4: an error in the middle of a stream is an event and the end
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=10 !error_after=2 !delay_ms=100 abcd","stream":true}
--- error_code: 200
--- response_body_like eval
qr/"text":"abcd".*\n\ndata: \{"error":\{"message":"[^"]+","type":"server_error","param":null,"code":"internal_error"\}\}\n\n$/s
--- response_body_unlike: DONE
--- error_log
in a stream



=== TEST 5: in the middle of an answer that is not streamed it is the status
--- request
POST /v1/completions
{"model":"echo","prompt":"!tokens=10 !error_after=2 abcd"}
--- error_code: 500
--- response_body_like: "code":"internal_error"



=== TEST 6: an engine that is not there
--- request
POST /gone/v1/completions
{"model":"echo","prompt":"abcd"}
--- error_code: 503
--- response_headers_like
Retry-After: \d+
--- response_body_like: "code":"engine_unavailable"
--- error_log
axion: engine "unix:/nonexistent/axion.sock" is not available



=== TEST 7: models of an engine that is not there
--- request
GET /gone/v1/models
--- error_code: 503
--- response_body_like: "code":"engine_unavailable"



=== TEST 8: streamed, and the time to accept is over before that to connect
--- config
    location /gone/v1/ { axion_pass gone; axion_timeout connect=300ms accept=50ms; }
--- request
POST /gone/v1/completions
{"model":"echo","prompt":"abcd","stream":true}
--- error_code: 200
--- response_body_like eval
qr/^: ping\n\ndata: \{"error":\{.*"code":"engine_unavailable"\}\}\n\n$/s



=== TEST 9: 413 before the body
--- config
    location /v1/ { axion_pass llm; client_max_body_size 10; }
--- request
POST /v1/completions
{"model":"echo","prompt":"abcd"}
--- error_code: 413
--- response_headers
Content-Type: application/json
--- response_body eval
qq({"error":{"message":"the body is too large","type":"invalid_request_error","param":null,"code":"request_too_large"}}\n)



=== TEST 10: limit_req with nginx's own status
--- http_config
    limit_req_zone $server_name zone=one:1m rate=1r/m;
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
--- config
    location /v1/ { axion_pass llm; limit_req zone=one; }
--- request eval
["GET /v1/models", "GET /v1/models"]
--- error_code eval
[200, 503]
--- response_body_like eval
["list", "\"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\""]



=== TEST 11: return of the rewrite module
--- config
    location /v1/ { axion_pass llm; return 404; }
--- request
GET /v1/models
--- error_code: 404
--- response_body_like: ^\{"error":\{.*"code":"not_found"\}\}



=== TEST 12: a text of the administrator's stays
--- config
    location /v1/ { axion_pass llm; return 403 "ask us\n"; }
--- request
GET /v1/models
--- error_code: 403
--- response_body
ask us



=== TEST 13: HEAD of a refusal
--- config
    location /v1/ { axion_pass llm; deny all; }
--- request
HEAD /v1/models
--- error_code: 403
--- response_headers
Content-Type: application/json
--- response_body



=== TEST 14: a broken chunk
--- raw_request eval
"POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"
--- error_code: 400
--- response_body_like: "code":"bad_request"



=== TEST 15: a body shorter than announced
--- raw_request eval
"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
--- config
    location /v1/ { axion_pass llm; client_body_timeout 100ms; }
--- ignore_response
--- wait: 0.3
--- error_log
http finalize request: 408



=== TEST 16: error_page to a file of the site
--- config
    location /v1/ { axion_pass llm; deny all; error_page 403 /sorry.html; }
--- user_files
>>> sorry.html
sorry
--- request
GET /v1/models
--- error_code: 403
--- response_body
sorry



=== TEST 17: an engine that goes on saying that it loads
--- config
    location /v1/ { axion_pass llm; axion_timeout connect=150ms; }
--- request
POST /v1/completions
{"model":"echo","prompt":"!error=ENGINE_LOADING abcd","stream":true}
--- error_code: 503
--- response_headers_like
Retry-After: \d+
--- response_body_like: "code":"model_loading"



=== TEST 18: what a body says does not reach the log: broken JSON
--- request
POST /v1/completions
{"model":"echo","prompt":secretword}
--- error_code: 400
--- response_body_like: near 'secretword'
--- error_log
axion: INVALID_JSON: the body is not valid JSON, line 1, byte
--- no_error_log
secretword



=== TEST 19: nor keys, nor the name of a model
--- request eval
['POST /v1/completions
{"model":"echo","prompt":"a","secretword":1,"secretword":2}',
'POST /v1/completions
{"model":"secretword","prompt":"a"}']
--- error_code eval
[400, 404]
--- response_body_like eval
['key \\\\"secretword\\\\" is given twice', 'model_not_found']
--- no_error_log
secretword
