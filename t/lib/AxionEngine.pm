# Engines for .t files: starts axion-echo (or any engine that takes --listen),
# waits until it listens, and puts its socket's path where configurations see
# it, as $TEST_NGINX_AXION_SOCKET.  Usable with the genuine Test::Nginx too,
# which knows nothing of engines: start it in the file's preamble.
#
#   use AxionEngine;
#   my $engine = AxionEngine->start;                 # axion-echo
#   my $other  = AxionEngine->start(name => 'second',
#                                   args => ['--model', 'other']);
#   $engine->kill; $engine->restart; $engine->freeze; $engine->thaw;
#   $engine->wait_for_log(qr/ cancel /, 10);
#
# The engine named NAME exports TEST_NGINX_AXION_SOCKET_NAME as well.  All
# engines of a file end with it, also when it dies.
package AxionEngine;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path remove_tree);
use IO::Socket::UNIX;
use POSIX qw(WNOHANG);
use Socket qw(SOCK_SEQPACKET);
use Time::HiRes qw(sleep time);

use constant {
    START_SECONDS => 60,
    STOP_SECONDS  => 30,
    POLL_SECONDS  => 0.01,
    PATH_MAX      => 100, # of a unix socket, with room to spare
};

my $source = abs_path(dirname(__FILE__) . '/../..');
my @engines;

# A test that is told to end takes its engines with it: END runs on exit only.
$SIG{$_} ||= sub { exit 1 } for qw(INT TERM);

# name, program, args, log (a path; else under the folder).
sub start {
    my ($class, %o) = @_;
    my $name   = $o{name} || 'echo';
    my $folder = folder();
    my $self   = bless {
        name    => $name,
        program => $o{program} || build() . '/axion-echo',
        args    => $o{args} || [],
        socket  => "$folder/$name.sock",
        log     => $o{log} || "$folder/$name.log",
        owner   => $$,
    }, $class;
    -x $self->{program} or die "$self->{program} is not built\n";
    unlink $self->{log};
    push @engines, $self;
    $self->launch;
    $ENV{TEST_NGINX_AXION_SOCKET} = $self->{socket} if @engines == 1;
    $ENV{ 'TEST_NGINX_AXION_SOCKET_' . uc $name } = $self->{socket};
    return $self;
}

sub build {
    return $ENV{AXION_BUILD} || $ENV{BUILD} || "$source/build";
}

# Beside nginx's own prefix, unless that path is too long for a socket.
sub folder {
    our $folder;
    return $folder if $folder;
    $folder = "$source/t/servroot-engine-$$";
    $folder = "/tmp/axion-engine-$$" if length $folder > PATH_MAX - 20;
    make_path($folder);
    chmod 0755, $folder;
    return $folder;
}

# nginx's workers are another user, so everybody may connect.
sub launch {
    my ($self) = @_;
    my @log = $self->{program} =~ /axion-echo$/ ? ('--log', $self->{log}) : ();
    my $pid = fork;
    die "fork: $!\n" if !defined $pid;
    if ($pid == 0) {
        open STDIN,  '<',  '/dev/null';
        open STDOUT, '>>', "$self->{log}.out";
        open STDERR, '>>', "$self->{log}.out";
        exec $self->{program}, '--listen',
            "unix:$self->{socket},mode=0666", @log, @{ $self->{args} }
            or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    my $end = time + START_SECONDS;
    while (!$self->listens) {
        if (waitpid($pid, WNOHANG) == $pid || time > $end) {
            die "$self->{program} does not start:\n", $self->output;
        }
        sleep POLL_SECONDS;
    }
    return $self;
}

sub listens {
    my ($self) = @_;
    return IO::Socket::UNIX->new(
        Type => SOCK_SEQPACKET,
        Peer => $self->{socket},
    );
}

sub socket_path { return $_[0]{socket} }
sub pid         { return $_[0]{pid} }

sub signal {
    my ($self, $name) = @_;
    CORE::kill($name, $self->{pid}) if $self->{pid};
    return $self;
}

sub wait_for_exit {
    my ($self, $seconds) = @_;
    my $end = time + $seconds;
    while ($self->{pid}) {
        if (waitpid($self->{pid}, WNOHANG) != 0) {
            $self->{pid} = undef;
        }
        elsif (time > $end) {
            return 0;
        }
        else {
            sleep POLL_SECONDS;
        }
    }
    return 1;
}

# Drains; killed when it takes too long.
sub stop {
    my ($self) = @_;
    $self->signal('CONT')->signal('TERM');
    $self->wait_for_exit(STOP_SECONDS) or $self->kill;
    return $self;
}

sub kill {
    my ($self) = @_;
    $self->signal('KILL');
    $self->wait_for_exit(STOP_SECONDS);
    return $self;
}

sub freeze { return $_[0]->signal('STOP') }
sub thaw   { return $_[0]->signal('CONT') }

sub restart {
    my ($self, @args) = @_;
    $self->stop;
    $self->{args} = \@args if @args;
    return $self->launch;
}

sub slurp {
    my ($path) = @_;
    open my $file, '<:raw', $path or return '';
    local $/;
    return <$file> // '';
}

sub log_text { return slurp($_[0]{log}) }
sub output   { return slurp("$_[0]{log}.out") }

# Position in the log, for wait_for_log's third argument.
sub mark { return length $_[0]->log_text }

sub wait_for_log {
    my ($self, $pattern, $seconds, $from) = @_;
    my $end = time + $seconds;
    while (1) {
        my $text = $self->log_text;
        return 1 if substr($text, $from // 0) =~ $pattern;
        return 0 if time > $end;
        sleep POLL_SECONDS;
    }
}

END {
    my $code = $?;
    our $folder;
    my @mine = grep { $_->{owner} == $$ } @engines;
    $_->signal('CONT')->kill for @mine;
    remove_tree($folder) if $folder && @mine && !$ENV{TEST_NGINX_KEEP};
    $? = $code;
}

1;
