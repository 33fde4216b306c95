# The library shows other modules, and the server, only what PostgreSQL looks up by name: functions of theirs may have
# the names of ours.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $node    = ScreenshotTaskTest->start_new('main');
my $library = $node->config_data('--pkglibdir') . '/screenshot_task.so';
my ($listed, $errors) = PostgreSQL::Test::Utils::run_command([ 'nm', '-D', '--defined-only', '--format=posix', $library ]);
my @visible = sort map { /^(\S+)/ } split /\n/, $listed;

# Functions of the catalog, each with what tells of its calling convention, and what is looked up by fixed names
my @callable = split /\n/, $node->safe_psql('postgres', q{SELECT DISTINCT p.prosrc FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
	JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid AND e.extname = 'screenshot_task'
	WHERE l.lanname = 'c'});
push @callable, 'screenshot_task_tc3';    # which sql/tc3.sql makes a function of
my @expected = sort qw(_PG_init Pg_magic_func screenshot_task_launcher_main screenshot_task_worker_main), @callable, map { "pg_finfo_$_" } @callable;

is($errors, '', 'nm reads the library');
cmp_ok(scalar @callable, '>', 15, 'the extension has functions in C');
is_deeply(\@visible, \@expected, 'nothing else is visible');

done_testing();
