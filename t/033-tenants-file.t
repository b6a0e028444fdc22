# Shows that a file of tenants lets in whom it names, beside the blocks of
# nginx.conf, and that one which is wrong stops nginx with file and line.
#
# Keys: "test", "foo", "bar".  What happens while nginx runs is in
# tests/nginx/test_tenants_file.py.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start(args => ['--model', 'echo', '--model', 'gemma-2']);

our $test = 'key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08';
our $foo = 'key sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae';

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => ($block->http_config // '') . <<'_CONF_');
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    axion_tenants file=$TEST_NGINX_SERVER_ROOT/html/tenants interval=1s;
    location /v1/ { axion_pass llm; add_header X-Tenant $axion_tenant; }
_CONF_
});

run_tests();

__DATA__

=== TEST 1: who is in the file
--- user_files eval
">>> tenants\n# two\naxion_tenant acme { $::test; models echo; }\naxion_tenant other { $::foo; models gemma*; max_output 1; }\n"
--- request eval
["GET /v1/models", "GET /v1/models", "GET /v1/models"]
--- more_headers eval
["x-api-key: test", "x-api-key: foo", "x-api-key: bar"]
--- error_code eval
[200, 200, 401]
--- response_body_like eval
["\"data\":\\[\\{\"id\":\"echo\"[^}]*\\}\\]", "\"data\":\\[\\{\"id\":\"gemma-2\"[^}]*\\}\\]", "invalid_api_key"]
--- no_error_log
[alert]



=== TEST 2: beside tenants of nginx.conf
--- user_files eval
">>> tenants\naxion_tenant acme { $::test; }\n"
--- config eval
"axion_tenants file=\$TEST_NGINX_SERVER_ROOT/html/tenants;
 axion_tenant other { $::foo; }
 location /v1/ { axion_pass llm; add_header X-Tenant \$axion_tenant; }"
--- request eval
["GET /v1/models", "GET /v1/models"]
--- more_headers eval
["x-api-key: test", "x-api-key: foo"]
--- response_headers eval
["X-Tenant: acme", "X-Tenant: other"]



=== TEST 3: a level that says something says all
--- user_files eval
">>> tenants\naxion_tenant acme { $::test; }\n"
--- config eval
"axion_tenants file=\$TEST_NGINX_SERVER_ROOT/html/tenants;
 location /v1/ { axion_pass llm; }
 location /inner/v1/ { axion_pass llm; axion_tenant other { $::foo; } }"
--- request eval
["GET /v1/models", "GET /v1/models", "GET /inner/v1/models", "GET /inner/v1/models"]
--- more_headers eval
["x-api-key: test", "x-api-key: foo", "x-api-key: test", "x-api-key: foo"]
--- error_code eval
[200, 401, 401, 200]



=== TEST 4: a chosen key in a file
--- user_files
>>> tenants
axion_tenant acme {
    key argon2id:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$QAbvsGmIVF86xUdKejj/8v2Ee1FfDsXmSX3LBxYCpOQ;
}
--- request eval
["GET /v1/models", "GET /v1/models"]
--- more_headers eval
["x-api-key: acme:chosen", "x-api-key: acme:wrong"]
--- error_code eval
[200, 401]



=== TEST 5: an empty file lets nobody in
--- user_files
>>> tenants
--- request
GET /v1/models
--- more_headers
x-api-key: test
--- error_code: 401



=== TEST 6: a fault has its file and line
--- user_files eval
">>> tenants\naxion_tenant acme {\n    $::test;\n    priority urgent;\n}\n"
--- must_die
--- error_log eval
qr/\[emerg\].*invalid priority "urgent", it must be low, normal or high in \S+html\/tenants:3/



=== TEST 7: a key in plain text is not repeated
--- user_files
>>> tenants
axion_tenant acme { key my-secret-key; }
--- must_die
--- error_log
never as the key itself
--- no_error_log
my-secret-key



=== TEST 8: a tenant of nginx.conf again
--- user_files eval
">>> tenants\n\naxion_tenant acme { $::test; }\n"
--- config eval
"axion_tenants file=\$TEST_NGINX_SERVER_ROOT/html/tenants;
 axion_tenant acme { $::foo; }
 location /v1/ { axion_pass llm; }"
--- must_die
--- error_log eval
qr/axion_tenant "acme" is in nginx.conf too in \S+html\/tenants:2/



=== TEST 9: a key of nginx.conf again
--- user_files eval
">>> tenants\naxion_tenant acme { $::test; }\n"
--- config eval
"axion_tenants file=\$TEST_NGINX_SERVER_ROOT/html/tenants;
 axion_tenant other { $::test; }
 location /v1/ { axion_pass llm; }"
--- must_die
--- error_log
a key of axion_tenant "acme" is one of "other" in nginx.conf too



=== TEST 10: no file
--- config
    axion_tenants file=/nonexistent/tenants;
--- must_die
--- error_log eval
qr/cannot read "\/nonexistent\/tenants" \(2: No such file or directory\)/



=== TEST 11: a folder
--- config
    axion_tenants file=/tmp;
--- must_die
--- error_log eval
qr/cannot read "\/tmp" \(22: Invalid argument\)/



=== TEST 12: parameters
--- config
    axion_tenants interval=1s;
--- must_die
--- error_log
"axion_tenants" directive needs file=PATH



=== TEST 13: an interval too short
--- config
    axion_tenants file=x interval=1ms;
--- must_die
--- error_log
invalid "interval=1ms", it must be between 200ms and 1h



=== TEST 14: an unknown parameter
--- config
    axion_tenants file=x poll=1s;
--- must_die
--- error_log
unknown parameter "poll=1s"



=== TEST 15: twice in one level
--- config
    axion_tenants file=x;
    axion_tenants file=y;
--- must_die
--- error_log
"axion_tenants" directive is duplicate


=== TEST 16: limits of a tenant in the file count, and status shows it
--- user_files eval
">>> tenants\naxion_tenant acme { $::test; requests 1r/m; }\n"
--- config
    axion_tenants file=$TEST_NGINX_SERVER_ROOT/html/tenants;
    location /v1/ { axion_pass llm; }
    location = /status { axion_status llm; }
--- request eval
["GET /v1/models", "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"a\"}", "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"a\"}", "GET /status"]
--- more_headers eval
my $h = "x-api-key: test\nContent-Type: application/json";
[$h, $h, $h, $h]
--- error_code eval
[200, 200, 429, 200]
--- response_body_like eval
["list", "text_completion", "rate_limit_exceeded", "\"tenants\":\\[\\{\"name\":\"acme\".*\"limit\":\"requests\""]
