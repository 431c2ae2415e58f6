#!/usr/bin/perl
# What the gateways of the fault matrix run: answers HTTP with the version that it was started
# with. `/health` is bad while /run/faults/sick is there; `/wait` is answered once
# /run/faults/hold-drain is gone, so that its session keeps a balancer from leaving the host out.
use strict;
use warnings;
use IO::Socket::INET;

my $version = '';
for my $path ('/opt/faults/first', '/opt/faults/second') {
    open my $file, '<', $path or die "$path: $!";
    $version .= <$file>;
    close $file;
}
$version =~ s/\s+/ /g;
$SIG{CHLD} = 'IGNORE';
my $listener = IO::Socket::INET->new(
    LocalAddr => '0.0.0.0', LocalPort => 8080, Listen => 64, ReuseAddr => 1
) or die "port 8080: $!";
while (1) {
    my $client = $listener->accept or next;
    my $child = fork;
    if (!defined $child || $child) {
        close $client;
        next;
    }
    my $request = <$client> // '';
    while (my $line = <$client>) {
        last if $line =~ /^\r?\n$/;
    }
    if ($request =~ m{/wait}) {
        open my $begun, '>', '/run/faults/waits';
        select undef, undef, undef, 0.05 while -e '/run/faults/hold-drain';
    }
    my $sick = $request =~ m{/health} && -e '/run/faults/sick';
    my $status = $sick ? '503 Service Unavailable' : '200 OK';
    my $length = length $version;
    print $client "HTTP/1.1 $status\r\nContent-Length: $length\r\nConnection: close\r\n\r\n$version";
    close $client;
    exit 0;
}
