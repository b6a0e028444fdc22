# Shows what axion_quota takes and refuses, what tenants get while its Redis is
# not there (nothing listens at 127.0.0.1:1), and that no password is logged.
# tests/nginx/test_quota_redis.py has a real one.  A tenant's key is its name.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start;

sub quota {
    my ($quota) = @_;
    return <<"_CONF_";
    axion_upstream llm { engine unix:\$TEST_NGINX_AXION_SOCKET; }
    axion_tenant bud { key sha256:eb354856ade3a6275867cace684fe74f5d38cd28d6c43032f5744106ef1c07c4; budget 40/mo; }
    axion_tenant conc { key sha256:3fe3cde54dc9f3f924c3f733eadd753baf54ea84fa362e7712a9397ae9347c02; concurrency 1; }
    axion_quota $quota;
_CONF_
}

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => quota('redis://127.0.0.1:1'))
        if !defined $block->http_config;
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; }
    location = /metrics { axion_metrics; }
    location = /status { axion_status; }
_CONF_
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: who needs a share is refused while the store is away
--- more_headers
Content-Type: application/json
x-api-key: bud
--- request
POST /v1/completions
{"model":"echo","prompt":"hi"}
--- error_code: 503
--- response_headers
Retry-After: 1
--- response_body_like: "type":"server_error".*"code":"quota_unavailable"
--- error_log
quota store "redis://127.0.0.1:1" is away: it does not accept connections



=== TEST 2: or served, as if the other nodes stood still
--- http_config eval: main::quota(q[redis://me:SECRET@127.0.0.1:1/2 fail=open])
--- more_headers
Content-Type: application/json
x-api-key: bud
--- request eval
["POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!tokens=30 a\",\"max_tokens\":30}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"!tokens=30 a\",\"max_tokens\":30}",
 "POST /v1/completions\n{\"model\":\"echo\",\"prompt\":\"hi\"}",
 "GET /status", "GET /metrics"]
--- error_code eval
[200, 200, 429, 200, 200]
--- response_body_like eval
['"finish_reason":"stop"', '"finish_reason":"length".*insufficient_quota', '"code":"insufficient_quota"',
 '"quota":\{"store":"redis://127.0.0.1:1","state":"away","why":".*","fail":"open"\}.*"leased":0',
 qr/axion_quota_up 0\n.*axion_quota_alone_total [1-9].*axion_quota_leased\{tenant="bud",limit="budget_month"\} 0\n.*axion_quota_granted_total\{tenant="bud",limit="budget_month"\} 40\n/s]
--- no_error_log
SECRET



=== TEST 3: who has no limit that is shared needs no store
--- more_headers
Content-Type: application/json
x-api-key: conc
--- request
POST /v1/completions
{"model":"echo","prompt":"hi"}
--- error_code: 200
--- response_body_like: "text":"hi"



=== TEST 4: a dry run refuses nobody
--- config
    location /v1/ { axion_pass llm; axion_limit_dry_run on; }
--- more_headers
Content-Type: application/json
x-api-key: bud
--- request
POST /v1/completions
{"model":"echo","prompt":"hi"}
--- error_code: 200
--- response_body_like: "text":"hi"



=== TEST 5: no such scheme
--- http_config eval: main::quota(q[http://SECRET@h])
--- must_die
--- error_log
must begin with redis://, rediss:// or redis+unix://
--- no_error_log
SECRET



=== TEST 6: no user and password
--- http_config eval: main::quota(q[redis://SECRET@h])
--- must_die
--- error_log
what stands before @ must be [USER]:PASSWORD
--- no_error_log
SECRET



=== TEST 7: no port
--- http_config eval: main::quota(q[redis://:SECRET@h:0])
--- must_die
--- error_log
its host or port is none
--- no_error_log
SECRET



=== TEST 8: no database
--- http_config eval: main::quota(q[redis://:SECRET@127.0.0.1/x])
--- must_die
--- error_log
its database is no number
--- no_error_log
SECRET



=== TEST 9: no path
--- http_config eval: main::quota(q[redis+unix://:SECRET@relative])
--- must_die
--- error_log
its path is none
--- no_error_log
SECRET



=== TEST 10: too large a lease
--- http_config eval: main::quota(q[redis://127.0.0.1 lease=51%])
--- must_die
--- error_log
invalid parameter "lease=51%"
--- no_error_log
SECRET



=== TEST 11: a lease of nothing
--- http_config eval: main::quota(q[redis://127.0.0.1 lease=0%])
--- must_die
--- error_log
invalid parameter "lease=0%"
--- no_error_log
SECRET



=== TEST 12: a lease that is no share
--- http_config eval: main::quota(q[redis://127.0.0.1 lease=100])
--- must_die
--- error_log
invalid parameter "lease=100"
--- no_error_log
SECRET



=== TEST 13: no time
--- http_config eval: main::quota(q[redis://127.0.0.1 timeout=0])
--- must_die
--- error_log
invalid parameter "timeout=0"
--- no_error_log
SECRET



=== TEST 14: no such failure
--- http_config eval: main::quota(q[redis://127.0.0.1 fail=maybe])
--- must_die
--- error_log
invalid parameter "fail=maybe"
--- no_error_log
SECRET



=== TEST 15: a prefix with a hash tag
--- http_config eval: main::quota(q[redis://127.0.0.1 "prefix=a{b}"])
--- must_die
--- error_log
invalid parameter "prefix=a{b}"
--- no_error_log
SECRET



=== TEST 16: no such word
--- http_config eval: main::quota(q[redis://127.0.0.1 weight=5])
--- must_die
--- error_log
invalid parameter "weight=5"
--- no_error_log
SECRET



=== TEST 17: a password twice
--- http_config eval: main::quota(q[redis://:SECRET@127.0.0.1 password_file=/dev/null])
--- must_die
--- error_log
"password_file" and a password in the URL
--- no_error_log
SECRET



=== TEST 18: a file without a password
--- http_config eval: main::quota(q[redis://127.0.0.1 password_file=/dev/null])
--- must_die
--- error_log
"/dev/null" does not begin with a line of 1 to 512 bytes
--- no_error_log
SECRET



=== TEST 19: TLS words without TLS
--- http_config eval: main::quota(q[redis://127.0.0.1 ssl_verify=off])
--- must_die
--- error_log
"ssl_" parameters need a rediss:// URL
--- no_error_log
SECRET



=== TEST 20: TLS that trusts nobody
--- http_config eval: main::quota(q[rediss://127.0.0.1])
--- must_die
--- error_log
no "ssl_trusted_certificate" to verify
--- no_error_log
SECRET



=== TEST 21: twice
--- http_config eval: main::quota(q[redis://127.0.0.1; axion_quota redis://127.0.0.2])
--- must_die
--- error_log
"axion_quota" directive is duplicate
--- no_error_log
SECRET
