# Shows that a configuration which cannot work stops nginx with a reason, and
# that inheritance is what nginx users expect.

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
});

run_tests();

__DATA__

=== TEST 1: axion_pass to an upstream that nobody defines
--- config
    location /v1/ { axion_pass nowhere; }
--- must_die
--- error_log eval
qr/\[emerg\].*axion_upstream "nowhere" is not defined in \S+nginx\.conf:\d+/



=== TEST 2: the upstream may be defined later
--- http_config
    server {
        listen unix:$TEST_NGINX_SERVER_ROOT/later.sock;
        location / { axion_pass later; }
    }
    axion_upstream later { engine unix:$TEST_NGINX_AXION_SOCKET; }
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
--- request
GET /v1/models
--- error_code: 200



=== TEST 3: two upstreams of one name
--- http_config
    axion_upstream llm { engine unix:/a; }
    axion_upstream llm { engine unix:/b; }
--- must_die
--- error_log
duplicate axion_upstream "llm"



=== TEST 4: an upstream without engines
--- http_config
    axion_upstream llm { }
--- must_die
--- error_log
no engine and no remote in axion_upstream "llm"



=== TEST 5: an upstream's name
--- http_config
    axion_upstream "a b" { engine unix:/a; }
--- must_die
--- error_log
invalid name "a b"



=== TEST 6: an engine twice
--- http_config
    axion_upstream llm { engine unix:/a; engine unix:/a; }
--- must_die
--- error_log
duplicate engine "unix:/a"



=== TEST 7: an engine that is no unix socket
--- http_config
    axion_upstream llm { engine 127.0.0.1:8000; }
--- must_die
--- error_log
invalid engine "127.0.0.1:8000", it must be unix: and an absolute path



=== TEST 8: a relative path
--- http_config
    axion_upstream llm { engine unix:a.sock; }
--- must_die
--- error_log
invalid engine "unix:a.sock"



=== TEST 9: a path longer than a socket's address
--- http_config
    axion_upstream llm { engine unix:/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; }
--- must_die
--- error_log
too long path in engine



=== TEST 10: parameters of an engine
--- http_config
    axion_upstream llm { engine unix:/a weight=2; }
--- must_die
--- error_log
invalid number of parameters of "engine"



=== TEST 11: a remote without a name
--- http_config
    axion_upstream llm { remote; }
--- must_die
--- error_log
invalid number of parameters of "remote"



=== TEST 12: an unknown line in an upstream
--- http_config
    axion_upstream llm { engine unix:/a; keepalive 3; }
--- must_die
--- error_log
unknown parameter "keepalive" in axion_upstream "llm"



=== TEST 13: a block in an upstream
--- http_config
    axion_upstream llm { engine { } }
--- must_die
--- error_log
unexpected "{"



=== TEST 14: axion_pass twice
--- config
    location /v1/ { axion_pass llm; axion_pass llm; }
--- must_die
--- error_log
"axion_pass" directive is duplicate



=== TEST 15: two handlers in one location
--- config
    location /v1/ { axion_pass llm; axion_metrics; }
--- must_die
--- error_log
"axion_metrics" directive conflicts with another axion handler



=== TEST 16: axion_pass has no place in a server
--- config
    axion_pass llm;
--- must_die
--- error_log
"axion_pass" directive is not allowed here



=== TEST 17: axion_status of an upstream that nobody defines
--- config
    location /status { axion_status nowhere; }
--- must_die
--- error_log
axion_upstream "nowhere" is not defined



=== TEST 18: a tenant's name
--- config
    axion_tenant a/b { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; }
--- must_die
--- error_log
invalid name "a/b"



=== TEST 19: a tenant twice
--- config
    axion_tenant a { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; }
    axion_tenant a { key sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae; }
--- must_die
--- error_log
duplicate axion_tenant "a"



=== TEST 20: one key for two tenants
--- config
    axion_tenant a { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; }
    axion_tenant b { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; }
--- must_die
--- error_log
a key of axion_tenant "b" is one of "a" too



=== TEST 21: a tenant without a key
--- config
    axion_tenant a { priority low; }
    location /v1/ { axion_pass llm; }
--- must_die
--- error_log
no key in axion_tenant "a"



=== TEST 22: a key in plain text is refused and not repeated
--- config
    axion_tenant a { key my-secret-key; }
--- must_die
--- error_log
invalid key
--- no_error_log
my-secret-key



=== TEST 23: a hash of the wrong length
--- config
    axion_tenant a { key sha256:abcd; }
--- must_die
--- error_log
invalid key



=== TEST 24: a priority
--- config
    axion_tenant a { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; priority urgent; }
--- must_die
--- error_log
invalid priority "urgent", it must be low, normal or high



=== TEST 25: a priority twice
--- config
    axion_tenant a { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; priority low; priority low; }
--- must_die
--- error_log
"priority" is duplicate



=== TEST 26: models without a pattern
--- config
    axion_tenant a { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; models; }
--- must_die
--- error_log
invalid number of parameters of "models"



=== TEST 27: requests without a time
--- config
    axion_tenant a { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; requests 600; }
--- must_die
--- error_log
invalid rate, it must be like 100k/m, of s m h d: "600"



=== TEST 28: tokens with a burst that is none
--- config
    axion_tenant a { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; tokens 100k/m burst=-1; }
--- must_die
--- error_log
invalid parameter "burst=-1"



=== TEST 29: a budget for an hour
--- config
    axion_tenant a { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; budget 10M/h; }
--- must_die
--- error_log
invalid budget, it must be like 10M/d 200M/mo: "10M/h"



=== TEST 30: concurrency twice
--- config
    axion_tenant a { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; concurrency 32; concurrency 33; }
--- must_die
--- error_log
duplicate "concurrency"



=== TEST 31: an unknown line of a tenant
--- config
    axion_tenant a { colour blue; }
--- must_die
--- error_log
unknown parameter "colour" in axion_tenant



=== TEST 32: an unknown timeout
--- config
    axion_timeout read=5s;
--- must_die
--- error_log
unknown parameter "read=5s"



=== TEST 33: a timeout that is no time
--- config
    axion_timeout connect=soon;
--- must_die
--- error_log
invalid time in parameter "connect=soon"



=== TEST 34: a timeout of zero
--- config
    axion_timeout stall=0;
--- must_die
--- error_log
invalid time in parameter "stall=0"



=== TEST 35: a timeout twice in one directive
--- config
    axion_timeout idle=5s idle=6s;
--- must_die
--- error_log
duplicate parameter "idle=6s"



=== TEST 36: axion_timeout twice
--- config
    axion_timeout idle=5s;
    axion_timeout stall=6s;
--- must_die
--- error_log
"axion_timeout" directive is duplicate



=== TEST 37: axion_timeout without parameters
--- config
    axion_timeout;
--- must_die
--- error_log
invalid number of arguments in "axion_timeout" directive



=== TEST 38: a ping
--- config
    axion_keepalive_ping often;
--- must_die
--- error_log
invalid value "often", it must be a time or "off"



=== TEST 39: a ping twice
--- config
    axion_keepalive_ping off;
    axion_keepalive_ping 5s;
--- must_die
--- error_log
"axion_keepalive_ping" directive is duplicate



=== TEST 40: a buffer too small to hold an event
--- config
    axion_buffer 1k;
--- must_die
--- error_log
invalid size "1k", it must be between 4k and 64m



=== TEST 41: a buffer that is no size
--- config
    axion_buffer big;
--- must_die
--- error_log
invalid size "big"



=== TEST 42: a buffer twice
--- config
    axion_buffer 64k;
    axion_buffer 64k;
--- must_die
--- error_log
"axion_buffer" directive is duplicate



=== TEST 43: axion_metrics takes one word
--- config
    location /m { axion_metrics on; }
--- must_die
--- error_log
unknown parameter "on", it may be "vllm_compat"



=== TEST 44: one warning about a location without tenants, whatever their number
--- config
    location /v1/ { axion_pass llm; }
    location /b/v1/ { axion_pass llm; }
--- request
GET /v1/models
--- grep_error_log eval
qr/axion_pass without any axion_tenant/
--- grep_error_log_out



=== TEST 45: everything is inherited, and a level may say otherwise
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
    axion_timeout connect=1s;
    axion_buffer 128k;
    axion_keepalive_ping off;
    axion_tenant outer { key sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08; }
--- config
    axion_timeout accept=2s;
    location /v1/ {
        axion_pass llm;
        axion_keepalive_ping 1s;
    }
    location /inner/v1/ {
        axion_tenant inner { key sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae; }
        axion_pass llm;
    }
--- request eval
["GET /v1/models", "GET /v1/models", "GET /inner/v1/models", "GET /inner/v1/models"]
--- more_headers eval
["x-api-key: test", "x-api-key: foo", "x-api-key: test", "x-api-key: foo"]
--- error_code eval
[200, 401, 401, 200]



=== TEST 46: blocks may include files
--- http_config
    axion_upstream llm { include $TEST_NGINX_SERVER_ROOT/html/engines.inc; }
--- user_files eval
">>> engines.inc\nengine unix:$ENV{TEST_NGINX_AXION_SOCKET};\n"
--- request
GET /v1/models
--- error_code: 200
