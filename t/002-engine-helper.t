# Shows that AxionEngine starts, kills, freezes and restarts an echo engine,
# and that configurations find its socket.

use strict;
use warnings;
use lib 't/lib';
use Test::More;
use AxionEngine;

my $engine = AxionEngine->start(args => ['--model', 'm']);
is($ENV{TEST_NGINX_AXION_SOCKET}, $engine->socket_path, 'exported');
ok($engine->listens, 'listens once start returns');
ok($engine->wait_for_log(qr/channel open|listening/, 10), 'says so');

my $second = AxionEngine->start(name => 'second');
is($ENV{TEST_NGINX_AXION_SOCKET}, $engine->socket_path, 'first stays');
is($ENV{TEST_NGINX_AXION_SOCKET_SECOND}, $second->socket_path, 'by name');

my $old = $engine->pid;
$engine->kill;
ok(!$engine->listens, 'killed: nobody listens');
$engine->restart;
isnt($engine->pid, $old, 'restarted');
ok($engine->listens, 'over the stale socket');

my $mark = $engine->mark;
$engine->freeze;
$engine->thaw;
$engine->stop;
ok($engine->wait_for_log(qr/draining.*exit/s, 10, $mark), 'drained');

done_testing();
