# Shows bodies of every size and way: 900 KB in memory, in a temporary file
# and chunked, at nginx's limit and above it, larger than the ring takes.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start;

our $long = 'abcdefgh' x 115200;    # 921,600 bytes

sub completion {
    my ($prompt) = @_;
    return qq({"model":"echo","max_tokens":2,"prompt":"$prompt"});
}

# One chunk for each 4,000 bytes, as clients of unknown length send.
sub chunked {
    my ($body) = @_;
    my $chunks = join '', map { sprintf("%x\r\n%s\r\n", length, $_) }
        unpack '(a4000)*', $body;
    return "POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        . "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        . "\r\n${chunks}0\r\n\r\n";
}

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => <<'_CONF_') if !defined $block->http_config;
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
_CONF_
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ { axion_pass llm; }
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json")
        if !defined $block->more_headers && !defined $block->raw_request;
});

no_long_string();
log_level('info');
run_tests();

__DATA__

=== TEST 1: 900 KB, in a temporary file
--- request eval
"POST /v1/completions\n" . main::completion($main::long)
--- timeout: 20
--- response_body_like: "text":"abcdefgh",.*"prompt_tokens":230400,
--- error_log
a client request body is buffered to a temporary file



=== TEST 2: in memory
--- config
    location /v1/ { axion_pass llm; client_body_buffer_size 1m; }
--- request eval
"POST /v1/completions\n" . main::completion($main::long)
--- timeout: 20
--- response_body_like: "text":"abcdefgh",.*"prompt_tokens":230400,
--- no_error_log
is buffered to a temporary file



=== TEST 3: always in a file
--- config
    location /v1/ { axion_pass llm; client_body_in_file_only clean; }
--- request eval
"POST /v1/completions\n" . main::completion("abcd")
--- response_body_like: "text":"abcd"



=== TEST 4: chunked
--- raw_request eval
main::chunked(main::completion($main::long))
--- timeout: 20
--- response_body_like: "text":"abcdefgh",.*"prompt_tokens":230400,



=== TEST 5: chunked, in memory
--- config
    location /v1/ { axion_pass llm; client_body_buffer_size 2m; }
--- raw_request eval
main::chunked(main::completion($main::long))
--- timeout: 20
--- response_body_like: "text":"abcdefgh"



=== TEST 6: above nginx's limit
--- config
    location /v1/ { axion_pass llm; client_max_body_size 1m; }
--- request eval
"POST /v1/completions\n" . main::completion($main::long . $main::long)
--- timeout: 20
--- error_code: 413
--- response_body_like: "code":"request_too_large"



=== TEST 7: above it, chunked
--- config
    location /v1/ { axion_pass llm; client_max_body_size 1m; }
--- raw_request eval
main::chunked(main::completion($main::long . $main::long))
--- timeout: 20
--- error_code: 413
--- response_headers
Content-Type: application/json



=== TEST 8: larger than the ring takes
--- config
    location /v1/ { axion_pass llm; client_max_body_size 0; }
--- request eval
"POST /v1/completions\n" . main::completion($main::long x 10)
--- timeout: 20
--- error_code: 413
--- response_body_like: "code":"request_too_large"



=== TEST 9: larger than anything we parse
--- config
    location /v1/ { axion_pass llm; client_max_body_size 0; }
--- request eval
"POST /v1/completions\n" . main::completion("x" x 34000000)
--- timeout: 20
--- error_code: 413
--- response_body_like: "message":"the body is too large"



=== TEST 10: the next request is served
--- request eval
["POST /v1/completions\n" . main::completion($main::long),
 "POST /v1/completions\n" . main::completion("abcd")]
--- timeout: 20
--- error_code eval
[200, 200]



=== TEST 11: streamed answer to a large prompt
--- request eval
"POST /v1/completions\n" . qq({"model":"echo","max_tokens":2,"stream":true,"prompt":"$main::long"})
--- timeout: 20
--- response_body_like eval
qr/"text":"abcd.*\[DONE\]\n\n$/s
