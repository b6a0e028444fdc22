# Shows that the module loads and that each endpoint answers: models, chat and
# completions, streamed and whole, also over other prefixes.

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

=== TEST 1: models
--- request
GET /v1/models
--- response_headers
Content-Type: application/json
--- response_body_like: ^\{"object":"list","data":\[\{"id":"echo","object":"model","created":\d+,"owned_by":"axion","max_model_len":\d+\}\]\}$
--- no_error_log
[error]
[alert]



=== TEST 2: one model
--- request
GET /v1/models/echo
--- response_body_like: ^\{"id":"echo","object":"model",



=== TEST 3: HEAD has the headers and no body
--- request
HEAD /v1/models
--- response_headers_like
Content-Type: application/json
Content-Length: \d\d+
--- response_body



=== TEST 4: chat, whole
--- request
POST /v1/chat/completions
{"model":"echo","messages":[{"role":"user","content":"hello wörld"}]}
--- response_headers
Content-Type: application/json
--- response_headers_like
Content-Length: \d+
X-Request-Id: [0-9a-f]{32}
--- response_body_like: ^\{"id":"chatcmpl-[0-9a-f]{32}","object":"chat\.completion",.*"message":\{"role":"assistant","content":"hello wörld",.*"finish_reason":"stop".*"usage":\{"prompt_tokens":4,"completion_tokens":4,"total_tokens":8,
--- no_error_log
[error]
[alert]



=== TEST 5: chat, streamed
--- request
POST /v1/chat/completions
{"model":"echo","stream":true,"messages":[{"role":"user","content":"abcdefgh"}]}
--- response_headers
Content-Type: text/event-stream
Cache-Control: no-cache
X-Accel-Buffering: no
Transfer-Encoding: chunked
! Content-Length
--- response_body_like eval
qr/^data: \{"id":"chatcmpl-.*"delta":\{"role":"assistant","content":""\}.*\n\n(?:data: \{.*"delta":\{"content":"[a-h]+"\}.*\n\n)+data: \{.*"delta":\{\}.*"finish_reason":"stop".*\n\ndata: \[DONE\]\n\n$/s
--- no_error_log
[error]
[alert]



=== TEST 6: usage at the stream's end where it is asked for
--- request
POST /v1/chat/completions
{"model":"echo","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"abcdefgh"}]}
--- response_body_like eval
qr/"choices":\[\],"usage":\{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4,.*\n\ndata: \[DONE\]\n\n$/s



=== TEST 7: completion, whole
--- request
POST /v1/completions
{"model":"echo","prompt":"abcdefgh"}
--- response_body_like: ^\{"id":"cmpl-[0-9a-f]{32}","object":"text_completion",.*"text":"abcdefgh",.*"finish_reason":"stop"



=== TEST 8: completion, streamed
--- request
POST /v1/completions
{"model":"echo","prompt":"abcd","stream":true}
--- response_body_like eval
qr/^data: \{"id":"cmpl-.*"text":"abcd".*\n\ndata: \{.*"finish_reason":"stop".*\n\ndata: \[DONE\]\n\n$/s



=== TEST 9: completion of token ids
--- request
POST /v1/completions
{"model":"echo","prompt":[1,2,3]}
--- response_body_like: "text":"1 2 3"



=== TEST 10: max_tokens cuts, and the reason says so
--- request
POST /v1/completions
{"model":"echo","prompt":"abcdefghijkl","max_tokens":2}
--- response_body_like: "text":"abcdefgh",.*"finish_reason":"length"



=== TEST 11: keep-alive after every kind of answer
--- pipelined_requests eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"abcd\",\"stream\":true}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"efgh\"}",
 "GET /v1/models"]
--- response_body_like eval
["\\[DONE\\]\n\n\$", "\"text\":\"efgh\"", "\"object\":\"list\""]



=== TEST 12: under the root
--- config
    location / { axion_pass llm; }
--- request eval
["GET /v1/models", "GET /models", "GET /index.html"]
--- error_code eval
[200, 200, 404]



=== TEST 13: under another prefix
--- config
    location /llm/ { axion_pass llm; }
--- request eval
["GET /llm/v1/models", "GET /llm/models", "GET /llm/x/v1/models",
 "GET /llm/V1/models"]
--- error_code eval
[200, 200, 404, 404]



=== TEST 13b: an id is not cut at the /v1/ in it
--- config
    location /llm/ { axion_pass llm; }
    location / { axion_pass llm; }
--- request eval
["GET /llm/models/org/v1/models", "GET /models/org/v1/models",
 "GET /v1/models/org/v1/models", "GET /v1/v1/models"]
--- error_code eval
[404, 404, 404, 404]
--- response_body_like eval
["MODEL_NOT_FOUND|model_not_found", "MODEL_NOT_FOUND|model_not_found",
 "MODEL_NOT_FOUND|model_not_found", "not_found"]



=== TEST 14: regular expression and exact locations
--- config
    location ~ ^/(a|b)/v1/ { axion_pass llm; }
    location = /exact/v1/models { axion_pass llm; }
--- request eval
["GET /a/v1/models", "GET /b/v1/models/echo", "GET /exact/v1/models",
 "GET /a/v1/V1/models"]
--- error_code eval
[200, 200, 200, 404]



=== TEST 15: inside if
--- config
    location /v1/ {
        if ($http_x_llm) { axion_pass llm; }
    }
--- request eval
["GET /v1/models", "GET /v1/models"]
--- more_headers eval
["X-LLM: yes", "X-Other: yes"]
--- error_code eval
[200, 404]



=== TEST 15b: an if of the location keeps it
--- config
    location /v1/ {
        axion_pass llm;
        if ($http_x_llm) { add_header X-In-If yes; }
    }
--- more_headers
X-LLM: yes
--- request
GET /v1/models
--- response_headers
X-In-If: yes
--- response_body_like: "object":"list"



=== TEST 16: the site around it is nginx's
--- request
GET /nothing.html
--- error_code: 404
--- response_headers
Content-Type: text/html
! X-Request-Id



=== TEST 17: the client's request id is kept
--- more_headers
X-Request-Id: trace:42.a_b-c
--- request
GET /v1/models
--- response_headers
X-Request-Id: trace:42.a_b-c



=== TEST 18: one that could do harm is not
--- more_headers
X-Request-Id: a b
--- request
GET /v1/models
--- response_headers_like
X-Request-Id: [0-9a-f]{32}



=== TEST 19: what the location says about the headers counts, once
--- config
    location /v1/ {
        axion_pass llm;
        add_header X-Request-Id mine;
        add_header Cache-Control no-store;
    }
--- request
POST /v1/chat/completions
{"model":"echo","stream":true,"messages":[{"role":"user","content":"abcd"}]}
--- response_headers
X-Request-Id: mine
Cache-Control: no-store
X-Accel-Buffering: no



=== TEST 20: expires
--- config
    location /v1/ { axion_pass llm; expires 1h; }
--- request
POST /v1/chat/completions
{"model":"echo","stream":true,"messages":[{"role":"user","content":"abcd"}]}
--- response_headers
Cache-Control: max-age=3600
