# The protocol of a request holds in every interleaving, its model has the transitions of src/table/status.c, and finds mistakes.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;
use Test::More;

my $top     = "$FindBin::RealBin/../..";
my @command = ('/usr/bin/python3', '-B', "$top/test/model/protocol");

# Neither of the two changes without the other.
my $table = slurp_file("$top/src/table/status.c");
my @table = map { /\{STATUS_(\w+), STATUS_(\w+), BY_(\w+), (true|false),/; lc "$1 $2 $3" . ($4 eq 'true' ? ' held' : '') } $table =~ /^\t\{STATUS_.*$/mg;
my ($transitions) = run_command([ @command, '--transitions' ]);
is_deeply([ sort split /\n/, $transitions ], [ sort @table ], 'the model has the transitions of the table');

my ($scenarios, $complaints) = run_command(\@command);
ok(!$?, 'what must hold does in every interleaving') or diag $scenarios, $complaints;
note $scenarios;
my ($names) = slurp_file("$top/test/model/protocol") =~ /^SCENARIOS = \[\n(.*?)^\]/ms;
my @explored = $scenarios =~ /^.*: \d+ worlds, /mg;
my @scenarios = $names =~ /^    \("/mg;
is(@explored, @scenarios, 'in each scenario');
unlike($scenarios, qr/never happens/, 'and each transition happens');

# It would not hold with these.
my ($found) = run_command([ @command, '--errors' ]);
my ($errors) = slurp_file("$top/test/model/protocol.py") =~ /^ERRORS = \{\n(.*?)^\}/ms;
is_deeply([ map { /^([\w-]+): found: / ? $1 : "NOT $_" } split /\n/, $found ], [ $errors =~ /^    "([\w-]+)":/mg ], 'each mistake in it is found');

done_testing();
