#!/bin/sh
# Breaks the engine and the monitors on purpose, one expression at a time, and sees which test
# notices. All faults of list.txt are compiled into one copy of the tree, each behind a number that
# DURESS_MUTANT chooses, so there is one build; then the tests run once for each, on fewer histories
# than usual. Writes the table of README.md to the standard output.
#
#   checkers/mutants/run.sh [FOLDER [NUMBER...]]
#
# FOLDER keeps the copy and its build (default: temporary); NUMBERs choose faults (default: all).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
folder=${1:-$(mktemp -d)}
[ $# -eq 0 ] || shift
copy=$folder/tree
mkdir -p "$copy"
(cd "$root" && git ls-files -z | grep -zv '^checkers/mutants/' | xargs -0 tar cf - 2>/dev/null) | tar xf - -C "$copy"

cat >> "$copy/checkers/src/lib.rs" <<'RUST'

/// Whether a deliberate fault was chosen.
pub(crate) fn mutant(number: u32) -> bool {
    static CHOSEN: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    let chosen = || std::env::var("DURESS_MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    *CHOSEN.get_or_init(chosen) == number
}
RUST

# Puts the faults in. Several may be in one place: each wraps what was there.
perl -e '
    use strict; use warnings;
    my ($list, $source) = @ARGV;
    open my $in, "<", $list or die $!;
    local $/ = "";
    my ($number, $lost, %edits) = (0, 0);
    while (my $block = <$in>) {
        my ($file, $place, $new) = grep { !/^#/ } split /\n/, $block;
        next unless defined $new;
        $number++;
        my $nth = $file =~ s/ (\d+)$// ? $1 : 1;
        $place =~ /^(.*)\[\[(.*)\]\](.*)$/ or die "$file: no expression in: $place\n";
        my ($before, $old, $after) = ($1, $2, $3);
        push @{$edits{$file}}, [$number, $nth, $before, $old, $after, $new];
    }
    for my $file (sort keys %edits) {
        open my $f, "<", "$source/$file" or die "$file: $!"; local $/; my $text = <$f>; close $f;
        # All places are found in the unchanged text, then replaced from the last.
        my %at;
        for my $edit (@{$edits{$file}}) {
            my ($number, $nth, $before, $old, $after, $new) = @$edit;
            my ($from, $left) = (-1, $nth);
            while ($left-- > 0) { $from = index($text, "$before$old$after", $from + 1); last if $from < 0; }
            if ($from < 0) { print STDERR "fault $number: not found in $file: $before$old$after\n"; $lost++; next; }
            my $key = ($from + length $before) . " " . length $old;
            push @{$at{$key}}, [$number, $new];
        }
        for my $key (sort { (split / /, $b)[0] <=> (split / /, $a)[0] } keys %at) {
            my ($from, $length) = split / /, $key;
            my $expression = substr $text, $from, $length;
            for (@{$at{$key}}) { $expression = "(if crate::mutant($_->[0]) { $_->[1] } else { $expression })"; }
            substr($text, $from, $length) = $expression;
        }
        open $f, ">", "$source/$file" or die $!; print $f $text; close $f;
    }
    exit($lost > 0);
' "$here/list.txt" "$copy/checkers/src"

cd "$copy"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$folder/target}"
cargo test -p duress-checkers --test engine --test models --test checkers --no-run 2> "$folder/build.log" ||
    { cat "$folder/build.log" >&2; exit 1; }
tests=$(sed -n 's/.*Executable.*(\(.*\))/\1/p' "$folder/build.log")
count=$(grep -v '^#' "$here/list.txt" | grep -c '\[\[.*\]\]')

# The first test that fails under a fault, or nothing.
noticed() {
    for binary in $tests; do
        case $binary in
            *engine-*) only='the_engine_agrees generated_histories every_prefix the_first_violation'; histories=${DURESS_FUZZ:-40000} ;;
            *checkers-*) only=growing; histories=1 ;;
            *) only='fuzz::queues fuzz::stacks fuzz::priority fuzz::sets fuzz::logs fuzz::key_values fuzz::cas_registers'
               histories=$((${DURESS_FUZZ:-40000} * 2)) ;;
        esac
        # A fault may also lead nowhere: a test that doesn't end has noticed it.
        said=$(cd checkers && DURESS_MUTANT=$1 DURESS_FUZZ=$histories RUST_BACKTRACE=0 timeout 60 "$binary" $only 2>/dev/null) && continue
        name=$(printf '%s\n' "$said" | sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' | head -1)
        echo "${name:-no end within a minute}"
        return
    done
}

unharmed=$(noticed 0)
[ -z "$unharmed" ] || { echo "the tests fail without a fault: $unharmed" >&2; exit 1; }
echo '| | file | was | became | noticed by |'
echo '|---|---|---|---|---|'
survivors=0
for number in ${*:-$(seq "$count")}; do
    by=$(noticed "$number")
    [ -n "$by" ] || { by='**nothing**'; survivors=$((survivors + 1)); }
    row=$(perl -e '
        local $/ = ""; my $n = 0;
        while (<STDIN>) {
            my ($file, $place, $new) = grep { !/^#/ } split /\n/;
            next unless defined $new and ++$n == $ARGV[0];
            $place =~ /\[\[(.*)\]\]/; my $old = $1; s/\|/\\|/g for $old, $new;
            $file =~ s/ \d+$//;
            print "| $n | `$file` | `$old` | `$new` |";
        }' "$number" < "$here/list.txt")
    echo "$row $by |"
done
echo
echo "$count faults, $survivors unnoticed."
[ "$survivors" -eq 0 ]
