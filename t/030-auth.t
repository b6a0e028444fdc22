# Shows who gets in: keys in both headers, on every path of the location,
# beside nginx's own access rules, before the body is read; and that what a
# tenant may not use does not exist for it.
#
# acme's key is "test", other's is "foo".

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start(args => ['--model', 'echo', '--model', 'gemma-2']);

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => ($block->http_config // '') . <<'_CONF_');
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
    axion_tenant acme {
        key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08;
        key sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9;
        models ech?;
    }
    axion_tenant other {
        key sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae;
        models gemma* llama*;
    }
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; }
_CONF_
});

run_tests();

__DATA__

=== TEST 1: no key
--- request
GET /v1/models
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer
Content-Type: application/json
--- response_body eval
qq({"error":{"message":"a valid API key is needed","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}\n)
--- no_error_log
[alert]



=== TEST 2: every path and method of the location needs one
--- request eval
["GET /v1/", "GET /v1/nothing", "POST /v1/chat/completions\n{}", "OPTIONS /v1/models", "DELETE /v1/models/echo", "HEAD /v1/models"]
--- error_code eval
[401, 401, 401, 401, 401, 401]



=== TEST 3: Bearer
--- more_headers
Authorization: Bearer test
--- request
GET /v1/models
--- response_body_like: "id":"echo"
--- response_headers
! WWW-Authenticate



=== TEST 4: the scheme in any case
--- more_headers
Authorization: bEARER test
--- request
GET /v1/models
--- error_code: 200



=== TEST 5: x-api-key
--- more_headers
x-api-key: test
--- request
GET /v1/models
--- error_code: 200



=== TEST 6: the tenant's second key
--- more_headers
x-api-key: bar
--- request
GET /v1/models
--- response_body_like: "id":"echo"



=== TEST 7: what is no key
--- request eval
[map { "GET /v1/models" } 1 .. 9]
--- more_headers eval
["Authorization: Bearer wrong", "Authorization: Bearer ", "Authorization: Basic test",
 "Authorization: test", "Authorization: Bearer test2", "Authorization: Bearer tes",
 "x-api-key: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
 "x-api-key: TEST", "X-Other: test"]
--- error_code eval
[401, 401, 401, 401, 401, 401, 401, 401, 401]



=== TEST 8: an Authorization that fails does not fall back to x-api-key
--- more_headers
Authorization: Bearer wrong
x-api-key: test
--- request
GET /v1/models
--- error_code: 401



=== TEST 9: a key that is long beyond reason
--- more_headers eval
"x-api-key: " . ("k" x 600)
--- request
GET /v1/models
--- error_code: 401



=== TEST 10: a tenant sees its models only
--- more_headers
x-api-key: foo
--- request
GET /v1/models
--- response_body_like: "id":"gemma-2"
--- response_body_unlike: "id":"echo"



=== TEST 11: and finds only those
--- more_headers
x-api-key: foo
--- request eval
["GET /v1/models/gemma-2", "GET /v1/models/echo"]
--- error_code eval
[200, 404]



=== TEST 12: a model that the tenant may not use
--- more_headers
x-api-key: foo
Content-Type: application/json
--- request
POST /v1/chat/completions
{"model":"echo","messages":[{"role":"user","content":"hi"}]}
--- error_code: 403
--- response_body_like: "type":"permission_error","param":"model","code":"model_not_allowed"



=== TEST 13: one that it may use, but nobody serves
--- more_headers
x-api-key: foo
Content-Type: application/json
--- request
POST /v1/chat/completions
{"model":"llama-9","messages":[{"role":"user","content":"hi"}]}
--- error_code: 404
--- response_body_like: "param":"model","code":"model_not_found"



=== TEST 14: refused before the body is read
--- more_headers
Content-Type: application/json
Content-Length: 1000000
--- raw_request eval
"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
--- error_code: 401



=== TEST 15: satisfy any: an address may replace the key
--- config
    location /v1/ { axion_pass llm; satisfy any; allow 127.0.0.1; deny all; }
--- request
GET /v1/models
--- error_code: 200
--- response_body_like: "id":"gemma-2"



=== TEST 16: satisfy any: the key may replace the address
--- config
    location /v1/ { axion_pass llm; satisfy any; deny all; }
--- request eval
["GET /v1/models", "GET /v1/models"]
--- more_headers eval
["x-api-key: test", "x-api-key: wrong"]
--- error_code eval
[200, 401]



=== TEST 17: satisfy all: both are needed
--- config
    location /v1/ { axion_pass llm; deny all; }
--- more_headers
x-api-key: test
--- request
GET /v1/models
--- error_code: 403
--- response_body_like: "code":"forbidden"



=== TEST 18: auth_request goes on working, its refusal is JSON
--- config
    location /v1/ { axion_pass llm; auth_request /auth; }
    location = /auth { internal; return 403; }
--- more_headers
x-api-key: test
--- request
GET /v1/models
--- error_code: 403
--- response_headers
Content-Type: application/json
--- response_body_like: "code":"forbidden"



=== TEST 19: subrequests do not get past the key
--- config
    location = /auth { internal; axion_pass llm; }
    location /v1/ { auth_request /auth; return 200; root html; }
    location /page { auth_request /auth; root html; }
--- request
GET /page
--- error_code: 403
--- error_log
axion_pass is not for subrequests



=== TEST 20: limit_req by tenant
--- http_config
    limit_req_zone $axion_tenant zone=t:1m rate=1r/m;
--- config
    location /v1/ { axion_pass llm; limit_req zone=t; limit_req_status 429; }
--- request eval
["GET /v1/models", "GET /v1/models", "GET /v1/models"]
--- more_headers eval
["x-api-key: test", "x-api-key: test", "x-api-key: foo"]
--- error_code eval
[200, 429, 200]
--- response_body_like eval
["list", "\"type\":\"rate_limit_error\",\"param\":null,\"code\":\"rate_limit_exceeded\"", "list"]



=== TEST 21: map and headers see the tenant
--- http_config
    map $axion_tenant $class { acme gold; default none; }
--- config
    location /v1/ { axion_pass llm; add_header X-Class "$class $axion_tenant"; }
--- more_headers
x-api-key: test
--- request
GET /v1/models
--- response_headers
X-Class: gold acme



=== TEST 22: error_page works as ever
--- config
    location /v1/ { axion_pass llm; error_page 401 = @mine; }
    location @mine { return 418 "mine\n"; }
--- request
GET /v1/models
--- error_code: 418
--- response_body
mine



=== TEST 23: limit_except is part of the location
--- config
    location /v1/ { axion_pass llm; limit_except POST { deny all; } }
--- more_headers
x-api-key: test
Content-Type: application/json
--- request eval
["GET /v1/models", "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"a\"}"]
--- error_code eval
[403, 200]
--- response_body_like eval
["\"code\":\"forbidden\"", "\"text\":\"a\""]
