# The pictures are what docs/pictures/draw draws, show what there is, and can be read: as text, on a light and on a dark
# page, and without animation.

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Copy qw(copy);
use File::Path qw(make_path);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $top      = abs_path("$FindBin::RealBin/../..");
my $pictures = "$top/docs/pictures";
my $node     = ScreenshotTaskTest->start_new('main');

# -------------------------------------------------------------------- What is drawn, and how
my %svg;
for my $name (qw(life-of-a-request processes demo))
{
	my ($drawn, $errors) = run_command([ "$pictures/draw", '--print', $name ]);
	$svg{$name} = slurp_file("$pictures/$name.svg");

	is($errors, '', "$name: is drawn");
	is($svg{$name}, "$drawn\n", "$name: is what docs/pictures/draw draws");
	cmp_ok(length $svg{$name}, '<', 100_000, "$name: is below 100 kB");
	my $parsed = run_log([ '/usr/bin/python3', '-c', 'import sys, xml.dom.minidom as dom; dom.parse(sys.argv[1])', "$pictures/$name.svg" ]);
	ok($parsed, "$name: is well-formed");
	like($svg{$name}, qr/<text [^>]*>\w/, "$name: has its text as text");
	like($svg{$name}, qr/\@media \(prefers-color-scheme: dark\)/, "$name: has colours for a dark page");
	unlike($svg{$name}, qr/<(?:script|image|foreignObject)|https?:(?!\/\/www\.w3\.org\/2000\/svg)(?!\/\/127)/, "$name: needs nothing from elsewhere");
}

# Before a line's turn in the recording it is pale, and not hidden.
my ($from) = $svg{demo} =~ /\@keyframes appear \{ from \{ opacity: ([\d.]+); \} \}/;
cmp_ok($from, '>=', 0.5, 'the recording can be read where nothing moves');

# Each is shown on a page.
for my $shown ([ 'README.md', 'docs/pictures/demo' ], [ 'docs/operation.md', 'pictures/life-of-a-request' ], [ 'docs/operation.md', 'pictures/processes' ])
{
	my ($page, $picture) = @$shown;
	like(slurp_file("$top/$page"), qr/!\[[^\]]+\]\(\Q$picture\E\.svg\)/, "$page shows $picture.svg");
}

# ------------------------------------------------------------------------ The life of a request
my @statuses = map { $_->{s} } $node->rows('SELECT unnest(enum_range(NULL::screenshot_task_status)) AS s');
is_deeply([ sort $svg{'life-of-a-request'} =~ /class="status"[^>]*>(\w+)</g ], [ sort @statuses ], 'the life of a request has all statuses, once, and no others');

# A copy whose status table has one transition more, and one less.
my $copy = PostgreSQL::Test::Utils::tempdir('pictures');
make_path("$copy/docs/pictures", "$copy/src/table");
copy($_, "$copy/docs/pictures/") or die "could not copy $_: $!" for glob "$pictures/*.txt";
copy("$pictures/draw", "$copy/draw") or die "could not copy draw: $!";
rename "$copy/draw", "$copy/docs/pictures/draw" or die "could not rename draw: $!";
my $status_table = slurp_file("$top/src/table/status.c");
for my $change (
	[ sub { s/^(\t)(\{STATUS_PENDING, STATUS_SENDING, )/$1\{STATUS_CREATED, STATUS_EXPIRED, BY_WORKER, false, UNCOUNTED, UNLOGGED},\n$1$2/m }, 'from created to expired by worker is not drawn' ],
	[ sub { s/^\t\{STATUS_PENDING, STATUS_EXPIRED, .*\n//m }, 'from pending to expired by worker does not exist' ])
{
	my ($edit, $complaint) = @$change;
	local $_ = $status_table;

	ok($edit->(), 'the status table is changed');
	append_to_file("$copy/src/table/new.c", $_);
	rename "$copy/src/table/new.c", "$copy/src/table/status.c" or die "could not rename status.c: $!";
	my (undef, $errors) = run_command([ '/usr/bin/python3', "$copy/docs/pictures/draw", '--print', 'life-of-a-request' ]);
	like($errors, qr/the transition \Q$complaint\E$/, 'and the picture does not agree');
}

# -------------------------------------------------------------------------------- The processes
my @types = ('screenshot_task launcher', 'screenshot_task worker');
ok($node->poll_query_until('postgres', q{SELECT array_agg(DISTINCT backend_type ORDER BY backend_type) = '{screenshot_task launcher,screenshot_task worker}'
	FROM pg_stat_activity WHERE backend_type LIKE 'screenshot%'}), 'the processes are a launcher and a worker');
is_deeply([ sort $svg{processes} =~ /class="head process"[^>]*>(screenshot_task \w+)</g ], \@types, 'as in the picture of them');

# -------------------------------------------------------------------------------------- The demo
# What is recorded is what test/demo says and runs today: its headings and its statements, in order.  Those with a variable
# of psql are recorded with its value.
my @wanted;
my $in_sql;
for my $line (split /\n/, slurp_file("$top/test/demo"))
{
	if ($line =~ /^\ttell "(.*)"$/) { push @wanted, $1 =~ s/\\"/"/gr }
	elsif ($line =~ /^\tsql \w+ <<-'END'$/) { $in_sql = 1 }
	elsif ($line =~ /^\tEND$/) { $in_sql = 0 }
	elsif ($in_sql && $line =~ /^\t\t(.+)/) { push @wanted, $1 if $1 !~ /:'/ }
}
my @recorded = split /\n/, slurp_file("$pictures/demo.txt");
my @rest = @wanted;
for my $line (@recorded) { shift @rest if @rest && $line eq $rest[0] }
cmp_ok(scalar @wanted, '>', 50, 'test/demo says and runs something');
is($rest[0], undef, 'docs/pictures/demo.txt has all of it (test/demo >docs/pictures/demo.txt records it anew)');

done_testing();
