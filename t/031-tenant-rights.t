# Shows what a tenant's lines do to its requests: names and state of keys,
# aliases, bounds of context and output, whom the cache is shared with; and
# that nothing in a body or a header raises any of it.
#
# Keys: acme "test", other "foo", third "bar".

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start(args => ['--model', 'echo', '--model', 'gemma-2']);

our $acme = 'key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08';
our $foo = 'sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae';
our $chat = "Authorization: Bearer test\nContent-Type: application/json";

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => ($block->http_config // '') . <<'_CONF_');
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
_CONF_
});

run_tests();

__DATA__

=== TEST 1: an expired key, and one that is not yet
--- config eval
"axion_tenant a { $::acme expires=2020-01-01; key $::foo expires=2099-12-31T23:59:59Z name=ci; }
 location /v1/ { axion_pass llm; }"
--- request eval
["GET /v1/models", "GET /v1/models"]
--- more_headers eval
["x-api-key: test", "x-api-key: foo"]
--- error_code eval
[401, 200]
--- response_body_like eval
["\"message\":\"the API key has expired\".*\"code\":\"invalid_api_key\"", "\"id\":\"echo\""]



=== TEST 2: a disabled key
--- config eval
"axion_tenant a { $::acme disabled; key $::foo; }
 location /v1/ { axion_pass llm; }"
--- request eval
["GET /v1/models", "GET /v1/models"]
--- more_headers eval
["x-api-key: test", "x-api-key: foo"]
--- error_code eval
[401, 200]
--- response_body_like eval
["\"message\":\"the API key is disabled\"", "\"id\":\"echo\""]



=== TEST 3: a disabled tenant
--- config eval
"axion_tenant a { $::acme; disabled; }
 location /v1/ { axion_pass llm; }"
--- more_headers
x-api-key: test
--- request
GET /v1/models
--- error_code: 403
--- response_body_like: "message":"the tenant is disabled","type":"permission_error","param":null,"code":"forbidden"



=== TEST 4: an alias answers under the name that was asked for
--- http_config
    log_format m '$axion_model $axion_served_model';
--- config eval
"axion_tenant a { $::acme; alias gpt-4o echo; alias o?-* gemma-2; }
 location /v1/ { axion_pass llm; access_log logs/access.log m; }"
--- request eval
["POST /v1/completions\n{\"model\":\"gpt-4o\",\"prompt\":\"hi\"}",
 "POST /v1/completions\n{\"model\":\"o3-mini\",\"prompt\":\"hi\"}",
 "POST /v1/completions\n{\"model\":\"gpt-5\",\"prompt\":\"hi\"}"]
--- more_headers eval
[$::chat, $::chat, $::chat]
--- error_code eval
[200, 200, 404]
--- response_body_like eval
["\"model\":\"gpt-4o\"", "\"model\":\"o3-mini\"", "model_not_found"]
--- access_log eval
["gpt-4o echo", "o3-mini gemma-2"]



=== TEST 5: the models of a tenant are what stands behind its names
--- config eval
"axion_tenant a { $::acme; models echo; alias fast echo; alias big gemma-2; alias other-* echo; }
 location /v1/ { axion_pass llm; }"
--- more_headers eval
[$::chat, $::chat, $::chat, $::chat, $::chat]
--- request eval
["GET /v1/models", "GET /v1/models/fast", "GET /v1/models/big", "GET /v1/models/other-1",
 "POST /v1/completions\n{\"model\":\"big\",\"prompt\":\"hi\"}"]
--- error_code eval
[200, 200, 404, 200, 403]
--- response_body_like eval
["\\A\\{\"object\":\"list\",\"data\":\\[\\{\"id\":\"echo\"[^}]*\\},\\{\"id\":\"fast\"[^}]*\\}\\]\\}\\Z",
 "\"id\":\"fast\"", "model_not_found", "\"id\":\"other-1\"", "model_not_allowed"]



=== TEST 6: max_output cuts what the body asks for, and what it does not
--- config eval
"axion_tenant a { $::acme; max_output 3; }
 location /v1/ { axion_pass llm; }"
--- more_headers eval
[$::chat, $::chat, $::chat]
--- request eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"max_tokens\":1000}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"max_tokens\":2}"]
--- response_body_like eval
["\"finish_reason\":\"length\".*\"completion_tokens\":3,", "\"finish_reason\":\"length\".*\"completion_tokens\":3,",
 "\"finish_reason\":\"length\".*\"completion_tokens\":2,"]



=== TEST 7: max_context refuses a longer prompt and ends the answer there
--- config eval
"axion_tenant a { $::acme; max_context 8; }
 location /v1/ { axion_pass llm; }"
--- more_headers eval
[$::chat, $::chat]
--- request eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":[1,2,3,4,5,6],\"max_tokens\":9}"]
--- error_code eval
[400, 200]
--- response_body_like eval
["context_length_exceeded", "\"prompt_tokens\":6,\"completion_tokens\":2,"]



=== TEST 8: nothing a client writes raises anything
--- config eval
"axion_tenant a { $::acme; max_output 2; models echo; priority low; }
 location /v1/ { axion_pass llm; }"
--- more_headers eval
my $h = "$::chat\nX-Axion-Tenant: other\nX-Axion-Priority: high\nX-Axion-Max-Output: 100\nX-Axion-Max-Context: 100000";
[$h, $h]
--- request eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"aaaaaaaaaaaaaaaaaaaaaaaa\",\"priority\":2,\"tenant\":\"other\",\"cache_salt\":\"x\",\"max_output\":90,\"max_tokens\":90}",
 "POST /v1/completions\n{\"model\":\"gemma-2\",\"prompt\":\"hi\"}"]
--- error_code eval
[200, 403]
--- response_body_like eval
["\"completion_tokens\":2,", "model_not_allowed"]



=== TEST 9: what cannot be
--- config eval
"axion_tenant a { $::acme; max_output 10; max_context 5; } location /v1/ { axion_pass llm; }"
--- must_die
--- error_log
max_output 10 is more than max_context 5



=== TEST 10: a number of tokens
--- config eval
"axion_tenant a { $::acme; max_output 10q; } location /v1/ { axion_pass llm; }"
--- must_die
--- error_log
invalid max_output "10q", it must be a number of tokens such as 4096 or 32k



=== TEST 11: an alias has two names
--- config eval
"axion_tenant a { $::acme; alias x; } location /v1/ { axion_pass llm; }"
--- must_die
--- error_log
invalid number of parameters of "alias"



=== TEST 12: whom the cache is shared with
--- config eval
"axion_tenant a { $::acme; cache everybody; } location /v1/ { axion_pass llm; }"
--- must_die
--- error_log
"cache" must be tenant, key, none, or group and a name



=== TEST 13: a key's date
--- config eval
"axion_tenant a { $::acme expires=tomorrow; } location /v1/ { axion_pass llm; }"
--- must_die
--- error_log
invalid key: expires= needs YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ



=== TEST 14: a word behind a key that may be a secret is not repeated
--- config eval
"axion_tenant a { $::acme my-secret-key; } location /v1/ { axion_pass llm; }"
--- must_die
--- error_log
invalid key: behind the hash there may be one each of name=, expires= and disabled
--- no_error_log
my-secret-key



=== TEST 15: more hashes by argon2id than a request may try
--- config eval
my $h = 'argon2id:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$QAbvsGmIVF86xUdKejj/8v2Ee1FfDsXmSX3LBxYCpOQ';
"axion_tenant a { " . ("key '$h'; " x 5) . "} location /v1/ { axion_pass llm; }"
--- must_die
--- error_log
more than 4 keys by argon2id



=== TEST 16: a weight is a number from 1 to 1000
--- config eval
"axion_tenant a { $::acme; weight 1001; } location /v1/ { axion_pass llm; }"
--- must_die
--- error_log
invalid weight "1001", it must be a number from 1 to 1000



=== TEST 17: a weight goes to the engine with the request
--- config eval
"axion_tenant a { $::acme; weight 7; } location /v1/ { axion_pass llm; }"
--- more_headers eval
$::chat
--- request eval
"POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"hi\",\"max_tokens\":2}"
--- error_code: 200
