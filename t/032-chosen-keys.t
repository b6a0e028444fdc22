# Shows that a key that a person chose is verified off the event loop: who
# sends TENANT:KEY waits for it, limit_req and maps see the tenant then, a
# wrong one is refused, and an answer is remembered.
#
# acme's hash is of "chosen" (Debian's argon2: -id -t 1 -k 8 -p 1); foo is
# other's key, by SHA-256.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start(args => ['--model', 'echo']);

our $chosen = 'argon2id:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$QAbvsGmIVF86xUdKejj/8v2Ee1FfDsXmSX3LBxYCpOQ';

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => ($block->http_config // '') . <<"_CONF_");
    axion_upstream llm { engine unix:$ENV{TEST_NGINX_AXION_SOCKET}; }
    axion_tenant acme { key $chosen name=boss; }
    axion_tenant other {
        key sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae;
    }
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; }
_CONF_
});

run_tests();

__DATA__

=== TEST 1: the tenant's name and the key, in both headers, again and again
--- request eval
["GET /v1/models", "GET /v1/models", "GET /v1/models"]
--- more_headers eval
["Authorization: Bearer acme:chosen", "x-api-key: acme:chosen", "x-api-key: acme:chosen"]
--- error_code eval
[200, 200, 200]
--- no_error_log
[alert]



=== TEST 2: what is wrong
--- request eval
[map { "GET /v1/models" } 1 .. 8]
--- more_headers eval
[map { "x-api-key: $_" } "acme:chosem", "acme:chosem", "chosen", "other:chosen", "nobody:chosen", "acme:", ":chosen", "acme:other:chosen"]
--- error_code eval
[401, 401, 401, 401, 401, 401, 401, 401]
--- response_body_like eval
["\"code\":\"invalid_api_key\"", ("invalid_api_key") x 7]
--- no_error_log
[alert]



=== TEST 3: keys of high entropy beside it
--- request
GET /v1/models
--- more_headers
x-api-key: foo
--- error_code: 200



=== TEST 4: the first request counts for limit_req already
--- http_config
    limit_req_zone $axion_tenant zone=t:1m rate=1r/m;
--- config
    location /v1/ { axion_pass llm; limit_req zone=t; limit_req_status 429; }
--- request eval
["GET /v1/models", "GET /v1/models", "GET /v1/models"]
--- more_headers eval
["x-api-key: acme:chosen", "x-api-key: acme:chosen", "x-api-key: foo"]
--- error_code eval
[200, 429, 200]



=== TEST 5: a body that was sent along is read after the wait
--- request
POST /v1/completions
{"model":"echo","prompt":"hello"}
--- more_headers
Content-Type: application/json
Authorization: Bearer acme:chosen
--- response_body_like: "text":"hello"



=== TEST 6: pipelined requests
--- pipelined_requests eval
["GET /v1/models", "GET /v1/models", "GET /v1/models/echo"]
--- more_headers
x-api-key: acme:chosen
--- error_code eval
[200, 200, 200]



=== TEST 7: satisfy any
--- config
    location /v1/ { axion_pass llm; satisfy any; deny all; }
--- request eval
["GET /v1/models", "GET /v1/models"]
--- more_headers eval
["x-api-key: acme:chosen", "x-api-key: acme:wrong"]
--- error_code eval
[200, 401]



=== TEST 8: a pool of its own
--- main_config
    thread_pool axion threads=1;
--- request
GET /v1/models
--- more_headers
x-api-key: acme:chosen
--- error_code: 200



=== TEST 9: variables and headers
--- config
    location /v1/ { axion_pass llm; add_header X-Who "$axion_tenant $axion_key"; }
--- request eval
["GET /v1/models", "GET /v1/models"]
--- more_headers eval
["x-api-key: acme:chosen", "x-api-key: foo"]
--- response_headers eval
["X-Who: acme boss", "X-Who: other"]



=== TEST 10: a hash that costs too much
--- config
    axion_tenant a { key argon2id:$argon2id$v=19$m=4000000,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$QAbvsGmIVF86xUdKejj/8v2Ee1FfDsXmSX3LBxYCpOQ; }
    location /v1/ { axion_pass llm; }
--- must_die
--- error_log
invalid key: argon2id: costs more than m=262144,t=10 for each verification
