# Shows what becomes of requests: fields, methods, paths, content types, and
# each refusal with its status and all four keys.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start(args => ['--context', '1000']);

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

=== TEST 1: all that is supported at once
--- request
POST /v1/chat/completions
{"model":"echo","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"abcd"},{"type":"text","text":"efgh"}]}],"max_tokens":50,"max_completion_tokens":60,"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.1,"repetition_penalty":1.1,"presence_penalty":0.1,"frequency_penalty":-0.1,"stop":["x","y"],"seed":7,"n":1,"ignore_eos":false,"logit_bias":{"5":-1.5},"user":"me","metadata":{"a":"b"}}
--- response_body_like: "content":"abcdefgh"



=== TEST 2: a stop string
--- request
POST /v1/completions
{"model":"echo","prompt":"abcdefgh","stop":"g"}
--- response_body_like: "text":"abcdef",.*"finish_reason":"stop"



=== TEST 3: a model that is not served
--- request
POST /v1/completions
{"model":"nope","prompt":"a"}
--- error_code: 404
--- response_body eval
qq({"error":{"message":"the model does not exist","type":"invalid_request_error","param":"model","code":"model_not_found"}}\n)



=== TEST 4: no model
--- request
POST /v1/completions
{"prompt":"a"}
--- error_code: 400
--- response_body_like: "param":"model","code":"missing_required_parameter"



=== TEST 5: a wrong type, with the field's path
--- request
POST /v1/chat/completions
{"model":"echo","messages":[{"role":"user","content":[{"type":"text","text":5}]}]}
--- error_code: 400
--- response_body_like: "param":"messages\[0\]\.content\[0\]\.text","code":"invalid_type"



=== TEST 6: a value out of range
--- request
POST /v1/completions
{"model":"echo","prompt":"a","top_p":2}
--- error_code: 400
--- response_body_like: "param":"top_p","code":"invalid_value"



=== TEST 7: known, not supported
--- request
POST /v1/completions
{"model":"echo","prompt":"a","n":2}
--- error_code: 400
--- response_body_like: "param":"n","code":"(unsupported_parameter|invalid_value)"



=== TEST 8: unknown fields are ignored
--- request
POST /v1/completions
{"model":"echo","prompt":"abcd","blub":{"x":[1,2,{}]}}
--- error_code: 200



=== TEST 9: broken JSON
--- request eval
["POST /v1/completions\n{", "POST /v1/completions\n", "POST /v1/completions\n[]", "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"a\"} x",
 "POST /v1/completions\n" . ("[" x 1000), "POST /v1/completions\n\x00"]
--- error_code eval
[400, 400, 400, 400, 400, 400]
--- response_body_like eval
[map { "\"type\":\"invalid_request_error\"" } 1 .. 6]



=== TEST 10: a prompt longer than the context
--- request eval
"POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"" . ("abcd" x 2000) . "\",\"stream\":true}"
--- error_code: 400
--- response_headers
Content-Type: application/json
--- response_body_like: "code":"context_length_exceeded"



=== TEST 11: methods
--- request eval
["GET /v1/chat/completions", "PUT /v1/completions", "POST /v1/models\n{}", "DELETE /v1/models/echo"]
--- error_code eval
[405, 405, 405, 405]
--- response_headers eval
["Allow: POST", "Allow: POST", "Allow: GET, HEAD", "Allow: GET, HEAD"]
--- response_body_like eval
[map { "\"code\":\"method_not_allowed\"" } 1 .. 4]



=== TEST 12: paths
--- request eval
["GET /v1/", "GET /v1/model", "POST /v1/chat/completions/x\n{}", "GET /v1/models/", "GET /v1/modelsx"]
--- error_code eval
[404, 404, 404, 404, 404]
--- response_body_like eval
[map { "\"code\":\"not_found\"" } 1 .. 5]



=== TEST 13: no content type
--- more_headers
X-Nothing: 1
--- request
POST /v1/completions
{"model":"echo","prompt":"a"}
--- error_code: 415
--- response_body_like: "code":"unsupported_media_type"



=== TEST 14: another content type
--- more_headers
Content-Type: application/jsonl
--- request
POST /v1/completions
{"model":"echo","prompt":"a"}
--- error_code: 415



=== TEST 15: one with parameters
--- more_headers
Content-Type: Application/JSON; charset=utf-8
--- request
POST /v1/completions
{"model":"echo","prompt":"a"}
--- error_code: 200



=== TEST 16: compressed
--- more_headers
Content-Type: application/json
Content-Encoding: gzip
--- request
POST /v1/completions
{"model":"echo","prompt":"a"}
--- error_code: 415



=== TEST 17: a body in packets
--- request eval
[["POST /v1/completions\n{\"model\":\"echo\",\"pro", {value => "mpt\":\"abcd\"}", delay_before => 0.05}]]
--- response_body_like: "text":"abcd"



=== TEST 18: Expect: 100-continue
--- raw_request eval
"POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: 34\r\n\r\n{\"model\":\"echo\",\"prompt\":\"abcdef\"}"
--- ignore_response
--- error_log
axion: submitted



=== TEST 19: HTTP/1.0, streamed
--- raw_request eval
"POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 46\r\n\r\n{\"model\":\"echo\",\"prompt\":\"abcd\",\"stream\":true}"
--- response_headers
Content-Type: text/event-stream
! Transfer-Encoding
--- response_body_like eval
qr/\[DONE\]\n\n$/s



=== TEST 20: the next request is served after each refusal
--- pipelined_requests eval
["POST /v1/completions\n{\"model\":\"nope\",\"prompt\":\"a\"}",
 "POST /v1/completions\n{\"model\":5}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"abcd\"}"]
--- error_code eval
[404, 400, 200]
