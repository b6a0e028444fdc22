# Shows identity that somebody else established: nginx's own variables, and
# headers of peers that are trusted, which count from nobody else.
#
# Keys: acme "test", other "foo".

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start(args => ['--model', 'echo', '--model', 'gemma-2']);

our $tenants = <<'_CONF_';
    axion_tenant acme { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; models echo; max_output 2; }
    axion_tenant other { key sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae; models gemma*; }
    axion_tenant keyless { }
_CONF_
our $say = 'add_header X-Who "$axion_tenant $axion_auth" always;';
our $long = "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}";
our $json = "Content-Type: application/json\nx-api-key: test";

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => ($block->http_config // '') . <<"_CONF_");
    axion_upstream llm { engine unix:\$TEST_NGINX_AXION_SOCKET; }
    $tenants
    map \$arg_who \$who { default ""; a acme; k keyless; x nobody; }
_CONF_
});

run_tests();

__DATA__

=== TEST 1: a variable names the tenant, and goes before a key
--- config eval
"location /v1/ { axion_pass llm; axion_tenant_from \$who; $::say }"
--- request eval
["GET /v1/models?who=a", "GET /v1/models?who=k", "GET /v1/models?who=a", "GET /v1/models", "GET /v1/models"]
--- more_headers eval
["", "", "x-api-key: foo", "x-api-key: foo", ""]
--- error_code eval
[200, 200, 200, 200, 401]
--- response_headers eval
["X-Who: acme variable", "X-Who: keyless variable", "X-Who: acme variable", "X-Who: other key", "WWW-Authenticate: Bearer"]



=== TEST 2: a name that nobody has does not fall back to a key
--- config eval
"location /v1/ { axion_pass llm; axion_tenant_from \$who; }"
--- request
GET /v1/models?who=x
--- more_headers
x-api-key: test
--- error_code: 401
--- response_body_like: "message":"the tenant is not known here"



=== TEST 3: what a client writes is refused by name
--- config
    location /v1/ { axion_pass llm; axion_tenant_from $http_x_tenant; }
--- must_die
--- error_log
"axion_tenant_from" directive from what any client may write



=== TEST 4: an argument neither
--- config
    location /v1/ { axion_pass llm; axion_tenant_from ${arg_tenant}; }
--- must_die
--- error_log
"axion_tenant_from" directive from what any client may write



=== TEST 5: nor a word
--- config
    location /v1/ { axion_pass llm; axion_tenant_from acme; }
--- must_die
--- error_log
"axion_tenant_from" directive needs a variable, or "off"



=== TEST 6: an unknown variable
--- config
    location /v1/ { axion_pass llm; axion_tenant_from $nowhere; }
--- must_die
--- error_log
unknown "nowhere" variable



=== TEST 7: its own tenant goes in no circle
--- config eval
"location /v1/ { axion_pass llm; axion_tenant_from \$axion_tenant; $::say }"
--- request
GET /v1/models
--- more_headers
x-api-key: foo
--- response_headers
X-Who: other key



=== TEST 8: inherited, and off
--- config eval
"axion_tenant_from \$who;
 location /v1/ { axion_pass llm; $::say }
 location /off/v1/ { axion_pass llm; axion_tenant_from off; axion_tenant inner { key sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae; } }"
--- request eval
["GET /v1/models?who=a", "GET /off/v1/models?who=a"]
--- error_code eval
[200, 401]



=== TEST 9: what auth_request found, though nobody is known before
--- config eval
"location /v1/ { set \$found ''; axion_pass llm; auth_request /auth; auth_request_set \$got \$found; axion_tenant_from \$got; $::say }
 location = /auth { internal; set \$found acme; return 204; }"
--- request
GET /v1/models
--- response_headers
X-Who: acme variable



=== TEST 10: a trusted peer names the tenant
--- config eval
"location /v1/ { axion_pass llm; axion_trust_headers 127.0.0.0/8; $::say }"
--- request eval
["GET /v1/models", "GET /v1/models", "GET /v1/models", "GET /v1/models"]
--- more_headers eval
["X-Axion-Tenant: acme", "X-Axion-Tenant: keyless", "x-api-key: foo", "X-Axion-Tenant: nobody\nx-api-key: foo"]
--- error_code eval
[200, 200, 200, 401]
--- response_headers eval
["X-Who: acme peer", "X-Who: keyless peer", "X-Who: other key", "WWW-Authenticate: Bearer"]



=== TEST 11: and may raise what the tenant may
--- config eval
"location /v1/ { axion_pass llm; axion_trust_headers 127.0.0.1; }"
--- request eval
[$::long, $::long, $::long]
--- more_headers eval
[$::json, "$::json\nX-Axion-Max-Output: 4\nX-Axion-Priority: high", "$::json\nX-Axion-Max-Context: 2"]
--- error_code eval
[200, 200, 400]
--- response_body_like eval
["\"completion_tokens\":2,", "\"completion_tokens\":4,", "context_length_exceeded"]



=== TEST 12: nobody else may
--- config eval
"location /v1/ { axion_pass llm; axion_trust_headers 192.0.2.0/24 2001:db8::/32 unix:; $::say }"
--- request eval
["GET /v1/models", $::long, "GET /v1/models"]
--- more_headers eval
["X-Axion-Tenant: acme", "$::json\nX-Axion-Max-Output: 9\nX-Axion-Priority: nonsense\nX-Axion-Tenant: other", "X-Axion-Tenant: acme\nX-Forwarded-For: 192.0.2.1"]
--- error_code eval
[401, 200, 401]
--- response_body_like eval
["invalid_api_key", "\"completion_tokens\":2,", "invalid_api_key"]



=== TEST 13: the address is the one that realip found
--- config eval
"set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;
 location /v1/ { axion_pass llm; axion_trust_headers 127.0.0.1; }"
--- request eval
["GET /v1/models", "GET /v1/models"]
--- more_headers eval
["X-Axion-Tenant: acme", "X-Axion-Tenant: acme\nX-Forwarded-For: 192.0.2.1"]
--- error_code eval
[200, 401]



=== TEST 14: a trusted peer that says nonsense
--- config eval
"location /v1/ { axion_pass llm; axion_trust_headers 127.0.0.1; }"
--- request eval
["GET /v1/models", "GET /v1/models", "GET /v1/models"]
--- more_headers eval
["x-api-key: test\nX-Axion-Priority: urgent", "x-api-key: test\nX-Axion-Max-Output: -1", "x-api-key: test\nX-Axion-Max-Context: 99999999999"]
--- error_code eval
[401, 401, 401]
--- error_log
axion: a trusted peer sent a priority or a bound that is not valid



=== TEST 15: an address that is none
--- config
    location /v1/ { axion_pass llm; axion_trust_headers everybody; }
--- must_die
--- error_log
invalid address "everybody", it must be an address, a CIDR range or "unix:"



=== TEST 16: geo, map and limit_req go by it
--- http_config
    geo $net { default ""; 127.0.0.0/8 other; }
    limit_req_zone $axion_tenant zone=t:1m rate=1r/m;
--- config eval
"location /v1/ { axion_pass llm; axion_tenant_from \$net; limit_req zone=t; limit_req_status 429; $::say }"
--- request eval
["GET /v1/models", "GET /v1/models"]
--- error_code eval
[200, 429]
--- response_headers eval
["X-Who: other variable", "X-Who: other variable"]



=== TEST 17: satisfy any
--- config eval
"location /v1/ { axion_pass llm; axion_tenant_from \$who; satisfy any; deny all; }"
--- request eval
["GET /v1/models?who=a", "GET /v1/models"]
--- error_code eval
[200, 401]



=== TEST 18: a trusted peer that left the client's own header beside its own
--- config eval
"location /v1/ { axion_pass llm; axion_trust_headers 127.0.0.1; }"
--- request eval
["GET /v1/models", "GET /v1/models", "GET /v1/models"]
--- more_headers eval
["X-Axion-Tenant: keyless\nX-Axion-Tenant: acme\nx-api-key: foo", "x-api-key: test\nX-Axion-Priority: high\nX-Axion-Priority: low", "x-api-key: test\nX-Axion-Max-Output: 9\nX-Axion-Max-Output: 1"]
--- error_code eval
[401, 401, 401]
--- error_log
axion: a trusted peer sent X-Axion-Tenant twice



=== TEST 19: satisfy any, where auth_request ends the phase before the variable is asked
--- config eval
"location /v1/ { set \$found ''; axion_pass llm; satisfy any; deny all; auth_request /auth; auth_request_set \$got \$found; axion_tenant_from \$got; $::say }
 location = /auth { internal; set \$found acme; return 204; }"
--- request
GET /v1/models
--- response_headers
X-Who: acme variable
--- response_body_unlike: gemma-2
