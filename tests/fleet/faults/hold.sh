#!/bin/sh
# hold PHASE [FILE]: takes for as long as /run/faults/hold-PHASE is there, and leaves behind that
# the phase was begun and ended; only the first one is held up. FILE is made at the end. A start
# fails while /run/faults/broken is there.
if [ -e "/run/faults/hold-$1" ] && mkdir "/run/faults/begun-$1" 2>/dev/null; then
    tries=0
    while [ -e "/run/faults/hold-$1" ] && [ $tries -lt 2400 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
    : >"/run/faults/ended-$1"
fi
if [ "$1" = restart ] && [ -e /run/faults/broken ]; then
    echo "broken on purpose" >&2
    exit 1
fi
if [ "$1" = commit ]; then
    : >"$2"
fi
