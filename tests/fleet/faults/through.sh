#!/bin/sh
# through FOLDER NAMESPACE HOST PORT: ssh's way to a host. While FOLDER/stall-HOST is there, it
# takes a MiB more and then nothing, as a link does that is clogged.
#
# What ssh reads is written by nc alone: it learns at once of a host that nobody reaches.
exec perl -e '
    my ($folder, $namespace, $host, $port) = @ARGV;
    my ($stall, $seen) = ("$folder/stall-$host", 0);
    open my $link, "|-", "nsenter", "--net=$namespace", "nc", "-N", $host, $port or die "nc: $!";
    close STDOUT;
    while (my $count = sysread STDIN, my $bytes, 16384) {
        if (-e $stall) {
            $seen += $count;
            select undef, undef, undef, 0.05 while $seen > 1 << 20 && -e $stall;
        } else {
            $seen = 0;
        }
        my $at = 0;
        while ($at < $count) {
            $at += syswrite($link, $bytes, $count - $at, $at) // exit 1;
        }
    }
    close $link;
' "$@"
