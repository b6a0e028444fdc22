# The lines of a test's log that say why it failed, 24 at most and each cut at
# 200 characters: the first "not ok" of TAP with its diagnostics, the first
# failures of cmocka, the first traceback of unittest, a sanitizer's report.
# A log that has none of them has its last lines printed instead, that of a
# test that hung besides: they tell where.

function out(line)
{
    if (n < 24) {
        print substr(line, 1, 200)
        n++
    }
}

{ last[NR % 8] = $0 }

# TAP: until the next result, which may be a failure as well.
/^not ok / { tap = 1; out($0); next }
/^ok /     { tap = 0; next }
tap && /^#/ { out($0); next }

# cmocka: what was compared stands before the line that names the place.
/^\[  ERROR   \]/ { cmocka = 6; out($0); next }
/^\[(  FAILED  |   LINE   )\]/ { out($0); next }
/^\[/             { cmocka = 0 }
cmocka > 0        { cmocka--; out($0); next }

# unittest: the traceback, up to the rule or the empty line that ends it.
/^(FAIL|ERROR): / { python = 1; rules = 0; out($0); next }
python && /^(-----+|=====+)$/ {
    if (++rules == 2) {
        python = 0
    }
    next
}
python { if ($0 != "") out($0); next }

# What sanitizers and shells print, and programs of ours that give up.
/ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer/ {
    report = 10
}
/runtime error:|^SUMMARY: / { out($0); next }
report > 0                  { report--; out($0); next }
/Assertion|[Ss]egmentation fault/ { out($0); next }

/ hung for [0-9]+ s$/ { hung = 1 }

END {
    if (n == 0 || hung) {
        for (i = NR - 7; i <= NR; i++) {
            if (i > 0 && last[i % 8] != "") {
                out(last[i % 8])
            }
        }
    }
}
