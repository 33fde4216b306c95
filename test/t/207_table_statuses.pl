# The statuses of src/table/status.c are those of the catalog, and no other file of the source names one.

use strict;
use warnings;

use File::Find;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $read = sub { my ($path) = @_; open(my $file, '<', "$top/$path") or die "$path: $!"; local $/; my $text = <$file>; return $text };

my $table = $read->('src/table/status.c');
my @statuses = map { [ /\[STATUS_(\w+)\] = \{"(\w+)", (true|false)\}/ ] } $table =~ /^\t\[STATUS_.*$/mg;
my $header = $read->('src/table/status.h');
my ($enum) = $header =~ /typedef enum RequestStatus\n\{\n(.*?)\n\tN_STATUSES/s;
is_deeply([ map { $_->[0] } @statuses ], [ $enum =~ /STATUS_(\w+)/g ], 'the table has the statuses of the enum, in its order');

my $node = ScreenshotTaskTest->start_new('main', 'screenshot_task.database' => '');
is($node->safe_psql('postgres', 'SELECT unnest(enum_range(NULL::screenshot_task_status))'), join("\n", map { $_->[1] } @statuses), 'and those of the catalog');

# What statements call them
is_deeply({ $header =~ /^#define SQL_(\w+)\s+"'(\w+)'"$/mg }, { map { $_->[0] => $_->[1] } @statuses }, 'statements have the same names');
for my $list ([ FINISHED => 'true' ], [ UNFINISHED => 'false' ])
{
	my ($names) = $header =~ /^#define SQL_$list->[0] \\\n\t(.*)$/m;
	is_deeply([ sort $names =~ /SQL_(\w+)/g ], [ sort map { $_->[0] } grep { $_->[2] eq $list->[1] } @statuses ], "\L$list->[0]\E ones are listed for statements");
}

# Each transition is there once, no status is a dead end that cannot be reached, and what is finished changes only if somebody has it retried, or
# withdraws it, or undoes that in the same transaction.
my @transitions = map { [ /\{STATUS_(\w+), STATUS_(\w+), BY_(\w+),/ ] } $table =~ /^\t\{STATUS_.*$/mg;
my %seen;
is_deeply([ grep { $seen{"@$_"}++ } @transitions ], [], 'no transition is there twice');
is_deeply([ grep { my $name = $_->[0]; $name ne 'PENDING' && !grep { $_->[1] eq $name } @transitions } @statuses ], [], 'each status can be reached');
my %finished = map { $_->[0] => 1 } grep { $_->[2] eq 'true' } @statuses;
is_deeply([ grep { $finished{$_->[0]} && $_->[2] !~ /^(?:RETRY|WITHDRAW|UNDO)$/ } @transitions ], [], 'what is finished changes only if it is retried or withdrawn');
is_deeply([ sort map { "@$_[1, 0]" } grep { $_->[2] eq 'WITHDRAW' } @transitions ], [ sort map { "@$_[0, 1]" } grep { $_->[2] eq 'UNDO' } @transitions ], 'each withdrawal can be undone');

# A worker's state, and an option of a server, are called like a status.
my $other = qr/return "sending";|\{"in_doubt", ForeignServerRelationId, /;
my $names = join '|', map { $_->[1] } @statuses;
my @named;
find({ no_chdir => 1, wanted => sub {
	return unless /\.[ch]$/ && !m{/src/table/status\.[ch]$};
	my $path = substr $_, length("$top/");
	my $text = $read->($path);
	$text =~ s{/\*.*?\*/}{}gs;
	$text =~ s/$other//g;
	push @named, map { "$path: $_" } grep { /["'{,](?:$names)["'},]/ && /["']/ } split /\n/, $text;
} }, "$top/src");
is_deeply(\@named, [], 'no other file of the source names a status');

done_testing();
