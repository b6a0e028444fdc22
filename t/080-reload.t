# Shows that a stream outlives a reload and a graceful end of nginx: every
# token arrives, from the process that began it.  With more workers and more
# streams: tests/nginx/test_reload.py.

use strict;
use warnings;

use lib 't/lib';
use AxionEngine;
use AxionHttp;
use AxionNginx;
use Cwd qw(getcwd);
use Test::More;

AxionEngine->start;

my $port = $ENV{TEST_NGINX_PORT} || 1984;
my $root = $ENV{TEST_NGINX_SERVROOT} || getcwd() . '/t/servroot';
my $body = '{"model":"echo","prompt":"!tokens=100 !delay_ms=10 abcd",'
    . '"stream":true}';

my $nginx = AxionNginx->new(root => $root, port => $port);
my $user  = $> == 0 ? 'user root root;' : '';
$nginx->write_conf(<<"END");
load_module $ENV{TEST_NGINX_LOAD_MODULES};
$user
daemon off;
worker_processes 1;
error_log logs/error.log info;
pid logs/nginx.pid;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path tmp/client_body;
    proxy_temp_path tmp/proxy;
    fastcgi_temp_path tmp/fastcgi;
    uwsgi_temp_path tmp/uwsgi;
    scgi_temp_path tmp/scgi;
    axion_upstream llm { engine unix:$ENV{TEST_NGINX_AXION_SOCKET}; }
    server {
        listen 127.0.0.1:$port;
        location /v1/ { axion_pass llm; }
    }
}
END

sub begin_stream {
    my $socket = AxionHttp::connect_to($port) or die "connect: $!\n";
    AxionHttp::send_packet($socket,
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            . "Content-Type: application/json\r\nContent-Length: "
            . length($body) . "\r\n\r\n$body", 30);
    my $data = '';
    while ($data !~ /"text":"abcd"/) {
        sysread $socket, $data, 4096, length $data or die "end: $data\n";
    }
    return ($socket, $data);
}

sub tokens {
    my ($socket, $data) = @_;
    1 while sysread $socket, $data, 65536, length $data;
    close $socket;
    my $n = () = $data =~ /"text":"abcd"/g;
    return $data =~ /\[DONE\]/ ? $n : "no end after $n";
}

my $why = $nginx->start;
is($why, undef, 'nginx starts');

my ($socket, $data) = begin_stream();
ok($nginx->reload, 'nginx reloads');
my ($second, $second_data) = begin_stream();
is(tokens($socket, $data),        100, 'the old worker ended its stream');
is(tokens($second, $second_data), 100, 'the new one serves');
ok($nginx->wait_for_log(qr/worker process \d+ exited with code 0/, 30),
    'the old worker ended well');

($socket, $data) = begin_stream();
$nginx->signal('QUIT');
ok($nginx->wait_for_log(qr/gracefully shutting down.*gracefully shutting/s,
        30), 'nginx is told to quit');
is(tokens($socket, $data), 100, 'and finished its stream first');
ok($nginx->wait_for_exit(30), 'nginx ends');
unlike($nginx->log_text, qr/\[(?:alert|emerg)\]/, 'no alert');

done_testing();
