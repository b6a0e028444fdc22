# One nginx of a test: writes its configuration, starts it in the foreground,
# stops it, and reads its log.  It lives in a prefix of its own and listens on
# loopback; the system's nginx is never touched.
#
#   my $nginx = AxionNginx->new(root => "$dir/servroot", port => 1984);
#   $nginx->write_conf($text);  my $why = $nginx->start;  # undef: it runs
#   $nginx->reload; $nginx->stop; $nginx->wait_for_log(qr/cancel/, 5);
package AxionNginx;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Path qw(make_path remove_tree);
use IO::Socket::INET;
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

use constant {
    START_SECONDS => 60,
    QUIT_SECONDS  => 5,
    POLL_SECONDS  => 0.01,
};

# A test that is told to end takes its nginx with it.
$SIG{$_} ||= sub { exit 1 } for qw(INT TERM);

sub new {
    my ($class, %o) = @_;
    my $self = bless {
        root   => $o{root},
        port   => $o{port},
        binary => $o{binary} || binary(),
        pid    => undef,
    }, $class;
    make_path($self->{root});
    $self->{root} = abs_path($self->{root});
    return $self;
}

sub binary {
    return $ENV{TEST_NGINX_BINARY} if $ENV{TEST_NGINX_BINARY};
    for my $path (split(/:/, $ENV{PATH}), '/usr/sbin') {
        return "$path/nginx" if -x "$path/nginx";
    }
    die "no nginx binary found; set TEST_NGINX_BINARY\n";
}

# A fresh prefix, but for the sockets that others may keep in it.
sub write_conf {
    my ($self, $conf) = @_;
    my $root = $self->{root};
    remove_tree("$root/$_") for qw(conf logs html tmp);
    make_path("$root/$_") for qw(conf logs html tmp);
    open my $file, '>', "$root/conf/nginx.conf" or die "$root: $!\n";
    print $file $conf;
    close $file or die "$root: $!\n";
    return;
}

# undef when it answers on its port, else the reason.
sub start {
    my ($self) = @_;
    my $pid = fork;
    die "fork: $!\n" if !defined $pid;
    if ($pid == 0) {
        open STDOUT, '>', "$self->{root}/logs/stdout.log";
        open STDERR, '>', "$self->{root}/logs/stderr.log";
        exec $self->{binary}, '-p', "$self->{root}/", '-c',
            'conf/nginx.conf' or POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    my $end = time + START_SECONDS;
    while (time < $end) {
        if (waitpid($pid, WNOHANG) == $pid) {
            $self->{pid} = undef;
            return 'nginx exited with ' . ($? >> 8) . ': '
                . $self->stderr_text . $self->log_text;
        }
        return undef if $self->answers;
        sleep POLL_SECONDS;
    }
    $self->stop;
    return 'nginx does not listen on port ' . $self->{port};
}

sub answers {
    my ($self) = @_;
    return -f "$self->{root}/logs/nginx.pid"
        && IO::Socket::INET->new(
        PeerAddr => '127.0.0.1',
        PeerPort => $self->{port},
        Timeout  => 1,
        );
}

sub signal {
    my ($self, $name) = @_;
    kill $name, $self->{pid} if $self->{pid};
    return;
}

sub wait_for_exit {
    my ($self, $seconds) = @_;
    my $end = time + $seconds;
    while ($self->{pid}) {
        if (waitpid($self->{pid}, WNOHANG) != 0) {
            $self->{pid} = undef;
            return 1;
        }
        return 0 if time > $end;
        sleep POLL_SECONDS;
    }
    return 1;
}

# Gracefully, then not.
sub stop {
    my ($self) = @_;
    for my $signal (qw(QUIT TERM KILL)) {
        last if !$self->{pid};
        $self->signal($signal);
        $self->wait_for_exit(QUIT_SECONDS);
    }
    return;
}

# SIGHUP, and waits until the master has started the new workers.
sub reload {
    my ($self) = @_;
    my $before = length $self->log_text;
    $self->signal('HUP');
    return $self->wait_for_log(qr/start worker process /, 30, $before);
}

# The pids of the master's children.
sub workers {
    my ($self) = @_;
    return () if !$self->{pid};
    open my $file, '<', "/proc/$self->{pid}/task/$self->{pid}/children"
        or return ();
    return split ' ', <$file> // '';
}

sub slurp {
    my ($path) = @_;
    open my $file, '<:raw', $path or return '';
    local $/;
    return <$file> // '';
}

sub log_text    { return slurp("$_[0]{root}/logs/error.log") }
sub access_text { return slurp("$_[0]{root}/logs/access.log") }
sub stderr_text { return slurp("$_[0]{root}/logs/stderr.log") }

# 1 once the log behind byte $from matches, 0 after so many seconds.
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

sub DESTROY {
    my ($self) = @_;
    local ($?, $!);
    $self->stop;
    return;
}

1;
