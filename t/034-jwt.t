# Shows that tokens of an issuer are keys: who is let in by them and as whom,
# what their claims change, and that a configuration which cannot work stops
# nginx.  Which tokens are good is tests/api/test_api_jwt.c's; the tokens here
# are the same (tests/api/jwt_vectors.json).

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use AxionEngine;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP;

AxionEngine->start(args => ['--model', 'echo', '--model', 'gemma-2']);

our $vectors = do {
    my $path = abs_path(dirname(__FILE__) . '/../tests/api/jwt_vectors.json');
    open my $fh, '<', $path or die "$path: $!";
    local $/;
    decode_json(<$fh>);
};
our $jwks = ">>> jwks\n" . encode_json($vectors->{jwks}) . "\n";
our %good = %{ $vectors->{good} };
our %bad = map { $_ => $vectors->{bad}{$_}[0] } keys %{ $vectors->{bad} };
our $foo = 'key sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae';
our $rules = 'jwks=$TEST_NGINX_SERVER_ROOT/html/jwks issuer=https://id.example audience=axion tenant=sub';

sub bearer { join "\n", "Authorization: Bearer $_[0]", 'Content-Type: application/json' }

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value(http_config => ($block->http_config // '') . <<'_CONF_');
    axion_upstream llm { engine unix:$TEST_NGINX_AXION_SOCKET; }
_CONF_
    $block->set_value(user_files => $jwks) if !defined $block->user_files;
    $block->set_value(config => <<"_CONF_") if !defined $block->config;
    axion_tenant acme { models echo; }
    axion_tenant keyed { $foo name=ci; }
    axion_jwt $rules;
    location /v1/ { axion_pass llm; add_header X-Who "\$axion_tenant \$axion_auth \$axion_key"; }
_CONF_
});

run_tests();

__DATA__

=== TEST 1: a token of every kind of algorithm
--- request eval
[map { "GET /v1/models" } sort keys %::good]
--- more_headers eval
[map { ::bearer($::good{$_}) } sort keys %::good]
--- error_code eval
[map { $_ eq 'tenant other' ? 401 : 200 } sort keys %::good]
--- no_error_log
[alert]



=== TEST 2: nobody is let in by a bad one
--- request eval
[map { "GET /v1/models" } sort keys %::bad]
--- more_headers eval
[map { ::bearer($::bad{$_}) } sort keys %::bad]
--- error_code eval
[map { /^(too many models|an empty model|models are|priority is)/ ? 200 : 401 } sort keys %::bad]



=== TEST 3: again, from the cache; beside keys
--- request eval
["GET /v1/models", "GET /v1/models", "GET /v1/models", "GET /v1/models"]
--- more_headers eval
[::bearer($::good{ES256}), "x-api-key: $::good{ES256}", "x-api-key: foo", "x-api-key: bar"]
--- error_code eval
[200, 200, 200, 401]
--- response_headers eval
["X-Who: acme jwt", "X-Who: acme jwt", "X-Who: keyed key ci", "WWW-Authenticate: Bearer"]



=== TEST 4: a refusal says why, to the client and in the log
--- request eval
["GET /v1/models", "GET /v1/models"]
--- more_headers eval
[::bearer($::bad{expired}), ::bearer($::good{"tenant other"})]
--- error_code eval
[401, 401]
--- response_headers eval
["WWW-Authenticate: Bearer error=\"invalid_token\"", "WWW-Authenticate: Bearer error=\"invalid_token\""]
--- response_body_like eval
["\"message\":\"the token has expired\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":\"invalid_api_key\"",
 "\"message\":\"the token's tenant is not known here\""]
--- error_log
axion: the token has expired
axion: the token's tenant is not known here



=== TEST 5: models of a claim narrow what the tenant may use
--- config eval
"axion_tenant acme { models echo gemma*; }
 axion_jwt $::rules models=axion.models;
 location /v1/ { axion_pass llm; }"
--- request eval
my $b = "POST /v1/completions\n{\"model\":\"%s\",\"prompt\":\"hi\"}";
["GET /v1/models", sprintf($b, "gemma-2"), sprintf($b, "gemma-2"), sprintf($b, "echo"), "GET /v1/models"]
--- more_headers eval
[::bearer($::good{"claim with dots"}), ::bearer($::good{"claim with dots"}), ::bearer($::good{models}),
 ::bearer($::good{"claim with dots"}), ::bearer($::good{"no models"})]
--- error_code eval
[200, 403, 200, 200, 200]
--- response_body_like eval
["\"data\":\\[\\{\"id\":\"echo\"[^}]*\\}\\]", "model_not_allowed", "text_completion", "text_completion", "\"data\":\\[\\]"]



=== TEST 6: a claim widens nothing
--- config eval
"axion_tenant acme { models echo; }
 axion_jwt $::rules models=axion.models;
 location /v1/ { axion_pass llm; }"
--- request
POST /v1/completions
{"model":"gemma-2","prompt":"hi"}
--- more_headers eval
::bearer($::good{models})
--- error_code: 403



=== TEST 7: a claim of the wrong kind lets nobody in
--- config eval
"axion_tenant acme { models echo; }
 axion_jwt $::rules models=axion.models priority=level;
 location /v1/ { axion_pass llm; }"
--- request eval
["GET /v1/models", "GET /v1/models", "GET /v1/models"]
--- more_headers eval
[map { ::bearer($::bad{$_}) } "models are numbers", "priority is unknown", "too many models"]
--- error_code eval
[401, 401, 401]



=== TEST 8: algorithms may be fewer
--- config eval
"axion_tenant acme { }
 axion_jwt $::rules algorithms=RS256,EdDSA;
 location /v1/ { axion_pass llm; }"
--- request eval
["GET /v1/models", "GET /v1/models", "GET /v1/models"]
--- more_headers eval
[map { ::bearer($::good{$_}) } "RS256", "EdDSA", "HS256"]
--- error_code eval
[200, 200, 401]



=== TEST 9: two issuers, and off
--- config eval
"axion_tenant acme { }
 axion_jwt jwks=\$TEST_NGINX_SERVER_ROOT/html/jwks issuer=https://other.example audience=axion tenant=sub;
 axion_jwt $::rules;
 location /v1/ { axion_pass llm; }
 location /off/v1/ { axion_pass llm; axion_jwt off; axion_tenant keyed { $::foo; } }"
--- request eval
["GET /v1/models", "GET /off/v1/models", "GET /off/v1/models"]
--- more_headers eval
[::bearer($::good{ES256}), ::bearer($::good{ES256}), "x-api-key: foo"]
--- error_code eval
[200, 401, 200]



=== TEST 10: limit_req, map and satisfy see the tenant of a token
--- http_config
    limit_req_zone $axion_tenant zone=t:1m rate=1r/m;
    map $axion_tenant $class { acme gold; default none; }
--- config eval
"axion_tenant acme { }
 axion_jwt $::rules;
 location /v1/ { axion_pass llm; limit_req zone=t; limit_req_status 429; satisfy any; deny all; add_header X-Class \$class always; }"
--- request eval
["GET /v1/models", "GET /v1/models"]
--- more_headers eval
[::bearer($::good{ES256}), ::bearer($::good{RS256})]
--- error_code eval
[200, 429]
--- response_headers eval
["X-Class: gold", "X-Class: gold"]



=== TEST 11: without a key set
--- config
    axion_jwt tenant=sub;
--- must_die
--- error_log
"axion_jwt" directive needs jwks=PATH



=== TEST 12: without a tenant's claim
--- config
    axion_jwt jwks=x;
--- must_die
--- error_log
"axion_jwt" directive needs tenant=CLAIM



=== TEST 13: "none" is no algorithm
--- config
    axion_jwt jwks=x tenant=sub algorithms=RS256,none;
--- must_die
--- error_log
unknown algorithm "none"



=== TEST 14: an unknown parameter
--- config
    axion_jwt jwks=x tenant=sub realm=x;
--- must_die
--- error_log
unknown parameter "realm=x"



=== TEST 15: a leeway
--- config
    axion_jwt jwks=x tenant=sub leeway=2h;
--- must_die
--- error_log
invalid "leeway=2h", it must be between 0 and 1h



=== TEST 16: a key set that is none, and is not repeated
--- user_files
>>> jwks
{"keys":[{"kty":"oct","k":"my-secret"}, oops]}
--- must_die
--- error_log eval
qr/axion: it is no JSON \(line 1, column \d+\) in \S+html\/jwks/
--- no_error_log
my-secret



=== TEST 17: a private key
--- user_files eval
">>> jwks\n" . JSON::PP::encode_json($::vectors->{"with a private part"})
--- must_die
--- error_log
a key of the set has its private part



=== TEST 18: tokens without tenants
--- config eval
"axion_jwt $::rules; location /v1/ { axion_pass llm; }"
--- must_die
--- error_log
axion_jwt, axion_tenant_from and axion_trust_headers need tenants



=== TEST 19: a token that anybody's tokens would pass for
--- config eval
"axion_tenant acme { }
 axion_jwt jwks=\$TEST_NGINX_SERVER_ROOT/html/jwks tenant=sub;
 location /v1/ { axion_pass llm; }"
--- request
GET /v1/models
--- more_headers eval
::bearer($::bad{"another issuer"})
--- error_code: 200
