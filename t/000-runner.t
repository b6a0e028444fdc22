# Shows that the runner itself works, against plain nginx without our module:
# responses, headers, logs, aborts, refused configurations, pipelining,
# arrays of requests, packets.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';

BEGIN {
    $ENV{TEST_NGINX_GREETING} = 'hello';
}

delete local $ENV{TEST_NGINX_LOAD_MODULES};
no_shuffle();
run_tests();

__DATA__

=== TEST 1: static return, status and headers
--- config
    location = /t {
        add_header X-Test one;
        return 200 "$TEST_NGINX_GREETING\n";
    }
--- request
GET /t
--- response_body
hello
--- response_headers
X-Test: one
Content-Type: text/plain
! X-Other
--- raw_response_headers_like: ^HTTP/1\.1 200 OK\r\n
--- raw_response_headers_unlike: X-Nobody
--- no_error_log
[error]
[alert]



=== TEST 2: other codes, chomp, like and unlike
--- config
    location = /t {
        return 403 "no entry\n";
    }
--- request
GET /t
--- error_code: 403
--- response_body_like chomp
^no \w+
--- response_body_unlike: yes



=== TEST 3: files of the block, HEAD without a body
--- config
--- user_files
>>> a.txt
one
>>> b/c.txt
two
--- request eval
["GET /a.txt", "GET /b/c.txt", "HEAD /a.txt", "GET /none"]
--- response_body eval
["one\n", "two\n", "", undef]
--- error_code eval
[200, 200, 200, 404]
--- error_log
open() "
none" failed



=== TEST 4: bodies, more_headers for each request
--- config
    location = /t {
        proxy_set_header X-Seen $http_x_give;
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/back;
    }
    location = /back {
        return 200 "$http_x_seen $content_length\n";
    }
--- request eval
["POST /t\nabc", "POST /t\nabcdef\n"]
--- more_headers eval
["X-Give: 1", "X-Give: 2"]
--- response_body eval
["1 3\n", "2 6\n"]



=== TEST 5: pipelined
--- config
    location /t {
        return 200 "$uri\n";
    }
--- pipelined_requests eval
["GET /t/1", "GET /t/2"]
--- response_body eval
["/t/1\n", "/t/2\n"]



=== TEST 6: abort is seen by nginx
--- config
    location = /t {
        limit_rate 1;
        return 200 "a long text that takes long\n";
    }
--- request
GET /t
--- timeout: 200ms
--- abort
--- ignore_response
--- error_log
http run request: "/t?"



=== TEST 7: a configuration that nginx refuses
--- config
    no_such_directive on;
--- must_die
--- error_log
unknown directive "no_such_directive"



=== TEST 8: raw requests, and answers to what is no HTTP
--- config
--- raw_request eval
"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"
--- error_code: 400



=== TEST 9: a request in packets with a pause
--- config
    location = /t {
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/back;
    }
    location = /back {
        return 200 "$content_length\n";
    }
--- request eval
[["POST /t\nabc", {value => "def", delay_before => 0.05}]]
--- response_body
6



=== TEST 10: log matches, access log, http_config and main_config
--- main_config
    env NOTHING;
--- http_config
    log_format short '$request_uri=$status';
--- config
    access_log logs/access.log short;
    location = /t {
        rewrite_log on;
        rewrite ^ /u;
    }
    location = /u {
        return 204;
    }
--- request
GET /t
--- error_code: 204
--- log_level: notice
--- grep_error_log eval
qr/rewritten data: "[^"]*"/
--- grep_error_log_out
rewritten data: "/u"
--- access_log
/t=204



=== TEST 11: a block that is not for this nginx
--- skip_nginx: 2: > 1.0.0: this nginx is too new
--- config
--- request
GET /nothing
--- response_body
never



=== TEST 12: chunked answers are put together
--- config
    location = /t {
        ssi on;
        ssi_types *;
        default_type text/html;
        alias html/t.html;
    }
--- user_files
>>> t.html
a<!--#echo var="uri" -->b
--- request
GET /t
--- response_headers
Transfer-Encoding: chunked
--- response_body
a/tb
