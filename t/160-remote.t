# Shows the line `remote`: its parameters, what is refused, and a server in
# nginx itself as the remote.  What a remote can do wrong: tests/nginx/
# test_remote.py.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;

AxionEngine->start(args => ['--model', 'small']);

my $answer = '{"id":"x","object":"text_completion","created":1,"model":"x",'
    . '"choices":[{"index":0,"text":"from afar","finish_reason":"stop"}],'
    . '"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}';

add_block_preprocessor(sub {
    my ($block) = @_;
    my $servers = "
    server {
        listen unix:\$TEST_NGINX_AXION_SOCKET.http;
        default_type application/json;
        location / { return 404 '{\"error\":{\"message\":\"no such path\"}}'; }
        location = /v1/completions {
            if (\$http_authorization != 'Bearer sk-r') { return 401 '{}'; }
            return 200 '$answer';
        }
        location = /api/completions { return 200 '$answer'; }
        location = /busy/completions {
            add_header Retry-After 7 always;
            return 429 '{}';
        }
    }
    upstream far { server unix:\$TEST_NGINX_AXION_SOCKET.http; keepalive 2; }
    upstream farther { server unix:\$TEST_NGINX_AXION_SOCKET.http; }
";
    $block->set_value(http_config => $servers . $block->http_config)
        if !defined $block->must_die;
    $block->set_value(config => <<'_CONF_') if !defined $block->config;
    location /v1/ {
        axion_pass llm;
        add_header X-Engine $axion_engine;
    }
    location = /metrics { axion_metrics; }
    location = /status { axion_status llm; }
_CONF_
    $block->set_value(more_headers => "Content-Type: application/json")
        if !defined $block->more_headers && defined $block->request
           && $block->request =~ /^POST/;
});

run_tests();

__DATA__

=== TEST 1: an upstream of remotes alone
--- http_config
    axion_upstream llm { remote far key=sk-r; }
--- request
POST /v1/completions
{"model":"any","prompt":"abcd"}
--- response_headers
X-Engine: far
--- response_body_like: "model":"any".*"text":"from afar".*"completion_tokens":2



=== TEST 2: a path in front of the endpoints
--- http_config
    axion_upstream llm { remote http://far/api/; }
--- request
POST /v1/completions
{"model":"any","prompt":"abcd"}
--- response_body_like: "from afar"



=== TEST 3: a key from a variable
--- http_config
    map $host $its_key { default sk-r; }
    axion_upstream llm { remote far key=$its_key; }
--- request
POST /v1/completions
{"model":"any","prompt":"abcd"}
--- response_body_like: "from afar"



=== TEST 4: a wrong key is our fault, not the client's
--- http_config
    axion_upstream llm { remote far key=wrong; }
--- request
POST /v1/completions
{"model":"any","prompt":"abcd"}
--- error_code: 502
--- response_body_like: "code":"remote_refused"



=== TEST 5: Retry-After is passed on
--- http_config
    axion_upstream llm { remote far/busy; }
--- request
POST /v1/completions
{"model":"any","prompt":"abcd"}
--- error_code: 503
--- response_headers
Retry-After: 7
--- response_body_like: "code":"overloaded"



=== TEST 6: a backup for models that the engine has not
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; remote far backup key=sk-r; }
--- request
POST /v1/completions
{"model":"other","prompt":"abcd"}
--- response_headers
X-Engine: far



=== TEST 7: the engine has its own
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; remote far backup key=sk-r; }
--- request
POST /v1/completions
{"model":"small","prompt":"abcd"}
--- response_body_like: "text":"abcd"



=== TEST 8: only the models that are named
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; remote far backup models=a,b* key=sk-r; }
--- request
POST /v1/completions
{"model":"c","prompt":"abcd"}
--- error_code: 404



=== TEST 9: names are listed
--- http_config
    axion_upstream llm { remote far models=a,b*; }
--- request
GET /v1/models
--- response_body_like: "data":\[\{"id":"a"[^{]*\}\]



=== TEST 10: what an engine cannot do, and no remote may, is refused as ever
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; remote far models=a; }
--- request
POST /v1/completions
{"model":"small","prompt":"abcd","suffix":"x"}
--- error_code: 400
--- response_body_like: "param":"suffix","code":"unsupported_parameter"



=== TEST 11: metrics
--- http_config
    axion_upstream llm { remote far; }
--- request
GET /metrics
--- response_body_like: axion_remote_requests_total\{upstream="llm",remote="far"\} \d



=== TEST 12: status
--- http_config
    axion_upstream llm { remote far backup; }
--- request
GET /status?ready
--- response_body_like: "remotes":\[\{"name":"far","backup":true



=== TEST 13: an unknown parameter
--- http_config
    axion_upstream llm { remote far weight=2; }
--- must_die
--- error_log
invalid parameter "weight=2" of "remote"



=== TEST 14: the same remote twice
--- http_config
    axion_upstream llm { remote 127.0.0.1:1; remote 127.0.0.1:1 backup; }
--- must_die
--- error_log
duplicate remote "127.0.0.1:1"



=== TEST 15: a key file that is not there
--- http_config
    axion_upstream llm { remote 127.0.0.1:1 key=file:/nonexistent/key; }
--- must_die
--- error_log
"/nonexistent/key" failed



=== TEST 16: TLS's parameters without TLS
--- http_config
    axion_upstream llm { remote 127.0.0.1:1 verify=off; }
--- must_die
--- error_log
"verify" and "ca" of "remote" need https://



=== TEST 17: certificates to verify with that are not there
--- http_config
    axion_upstream llm { remote https://127.0.0.1:1 ca=/nonexistent/ca; }
--- must_die
--- error_log
/nonexistent/ca



=== TEST 18: an upstream that is not there
--- http_config
    axion_upstream llm { remote no-such-host.invalid; }
--- must_die
--- error_log
host not found in upstream "no-such-host.invalid"



=== TEST 19: the model itself at a backup comes before another one here
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; fallback big small; remote far backup models=big key=sk-r; }
--- request
POST /v1/completions
{"model":"big","prompt":"abcd"}
--- response_headers
X-Engine: far
--- response_body_like: "model":"big".*"text":"from afar"



=== TEST 20: another one here where the backup fails
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; fallback big small; remote far/busy backup models=big; }
--- request
POST /v1/completions
{"model":"big","prompt":"abcd"}
--- response_body_like: "model":"big".*"text":"abcd"



=== TEST 21: or has not got it
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; fallback big small; remote far backup models=other key=sk-r; }
--- request
POST /v1/completions
{"model":"big","prompt":"abcd"}
--- response_body_like: "model":"big".*"text":"abcd"



=== TEST 22: the other model may be a remote's
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; fallback big medium small; remote far backup models=medium key=sk-r; }
--- request eval
["POST /v1/completions\n{\"model\":\"big\",\"prompt\":\"abcd\"}", "GET /metrics"]
--- more_headers eval
["Content-Type: application/json", ""]
--- response_body_like eval
[qr/"model":"big".*"text":"from afar"/, qr/axion_fallbacks_total 1\n/]



=== TEST 23: a remote's failure leads to an engine under its own name
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; fallback big medium small; remote far/busy backup models=medium; }
--- request
POST /v1/completions
{"model":"big","prompt":"abcd"}
--- response_body_like: "model":"big".*"text":"abcd"



=== TEST 24: remotes alone, and none has the model
--- http_config
    axion_upstream llm { remote far models=a; }
--- request
POST /v1/completions
{"model":"b","prompt":"abcd"}
--- error_code: 404
--- response_body_like: "code":"model_not_found"



=== TEST 25: a context that is none
--- http_config
    axion_upstream llm { remote 127.0.0.1:1 context=4q; }
--- must_die
--- error_log
invalid parameter "context=4q" of "remote"



=== TEST 26: more bytes in a token than there are
--- http_config
    axion_upstream llm { remote 127.0.0.1:1 bytes_per_token=17; }
--- must_die
--- error_log
invalid parameter "bytes_per_token=17" of "remote"



=== TEST 27: fewer
--- http_config
    axion_upstream llm { remote 127.0.0.1:1 bytes_per_token=0; }
--- must_die
--- error_log
invalid parameter "bytes_per_token=0" of "remote"



=== TEST 28: a prompt for which it has no context
--- http_config
    axion_upstream llm { remote far context=40 key=sk-r; }
--- request eval
['POST /v1/completions
{"model":"any","prompt":"abcd"}', 'POST /v1/completions
{"model":"any","prompt":"abcdefghijklmnopqrstuvwxyz"}']
--- more_headers eval
["Content-Type: application/json", "Content-Type: application/json"]
--- error_code eval
[200, 400]
--- response_body_like eval
["from afar", "context_length_exceeded"]



=== TEST 29: a key file without a key
--- http_config
    axion_upstream llm { remote 127.0.0.1:1 key=file:/dev/null; }
--- must_die
--- error_log
"/dev/null" does not begin with a line of 1 to 4095 bytes



=== TEST 30: another model stands in for what no engine can do as well
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; fallback big small medium; remote far models=medium key=sk-r; }
--- request eval
["POST /v1/completions\n{\"model\":\"big\",\"prompt\":\"abcd\",\"echo\":true}", "GET /metrics"]
--- more_headers eval
["Content-Type: application/json", ""]
--- response_body_like eval
[qr/"model":"big".*"text":"from afar"/, qr/axion_fallbacks_total 1\n/]



=== TEST 31: and where a remote fails
--- http_config
    axion_upstream llm { fallback big medium; remote far/busy models=big; remote farther/api models=medium; }
--- request
POST /v1/completions
{"model":"big","prompt":"abcd","echo":true}
--- response_headers
X-Engine: farther
--- response_body_like: "model":"big".*"text":"from afar"



=== TEST 32: nobody has either
--- http_config
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; fallback big small; remote far models=other; }
--- request
POST /v1/completions
{"model":"big","prompt":"abcd","echo":true}
--- error_code: 400
--- response_body_like: "param":"echo"



=== TEST 33: a floor that is neither
--- http_config
    axion_upstream llm { remote 127.0.0.1:1 usage_floor=low; }
--- must_die
--- error_log
invalid parameter "usage_floor=low" of "remote"
