# A worker for each database that has the extension, and for no other: found at start-up, told by the
# commit of CREATE EXTENSION or of a first request, gone after DROP EXTENSION.  No setting names a database.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main');

# CREATE EXTENSION, at its commit
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(one two none);
$node->safe_psql('one', 'BEGIN; CREATE EXTENSION screenshot_task; ROLLBACK');
$node->safe_psql('two', 'CREATE TABLE go ()');
my $creating = $node->begin('BEGIN; CREATE EXTENSION screenshot_task;'
	  . 'DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.1); END LOOP; END $$; COMMIT', dbname => 'two');
ok(has_workers('postgres'), 'CREATE EXTENSION starts no worker before its commit, nor if it is rolled back');
$node->safe_psql('two', 'INSERT INTO go DEFAULT VALUES');
is_deeply($creating->end->{error}, undef, 'it commits');
ok(has_workers('postgres', 'two'), 'and there is one');

# In any schema, under any search path
is($node->try('CREATE SCHEMA "Odd Schema"; CREATE EXTENSION screenshot_task SCHEMA "Odd Schema"', dbname => 'one')->{error},
	undef, 'the extension goes into any schema');
$node->add_server('tencent_live', $api, dbname => 'one');
$node->safe_psql('one', 'SET search_path = "Odd Schema";' . insert_sql(stream_name => 'odd schema'));
ok(wait_until(sub { $api->ledger(stream_name => 'odd schema') == 1 }), 'its requests are sent');
ok(has_workers(qw(one postgres two)), 'a worker for each');

# A start finds them all, and nothing else
$node->restart;
ok(has_workers(qw(one postgres two)), 'a restart starts a worker for each, and for no other database');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'screenshot_task launcher'"), 1,
	'there is one launcher');

# Template databases have none; a copy has a worker from its first request on.
$node->safe_psql('template1', 'CREATE EXTENSION screenshot_task');
$node->add_server('tencent_live', $api, dbname => 'template1');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->safe_psql('copy', insert_sql(stream_name => 'copy'));
ok($node->wait_for_table("status = 'created'", dbname => 'copy'), "a copy's first request is sent");
ok(has_workers(qw(copy one postgres two)), 'by a worker of its own; a template has none');
$node->safe_psql('postgres', 'CREATE DATABASE another');
$node->restart;
ok(has_workers(qw(another copy one postgres two)), 'a restart finds a copy without requests, too');

# DROP EXTENSION, at its commit
$node->safe_psql('two', 'BEGIN; DROP EXTENSION screenshot_task; ROLLBACK');
$node->safe_psql('one', 'DROP EXTENSION screenshot_task CASCADE');
ok(has_workers(qw(another copy postgres two)), 'DROP EXTENSION ends the worker');
is($node->safe_psql('one', q{SELECT count(*) FROM pg_depend WHERE deptype = 'e'
	AND refobjid NOT IN (SELECT oid FROM pg_extension)}), 0, 'and leaves nothing behind');
$node->safe_psql('one', 'CREATE EXTENSION screenshot_task');
ok(has_workers(qw(another copy one postgres two)), 'CREATE EXTENSION starts one again');

# A database that goes, and one that gets another name
$node->safe_psql('postgres', 'DROP DATABASE copy');
$node->safe_psql('postgres', 'ALTER DATABASE another RENAME TO renamed');
$node->safe_psql('renamed', insert_sql(stream_name => 'renamed'));
ok($node->wait_for_table("status = 'created'", dbname => 'renamed'), 'a request in a renamed database is sent');
ok(has_workers(qw(one postgres renamed two)), 'a database can be dropped and renamed');

unlike($node->log_text, qr/terminated by signal|PANIC|ERROR/, 'without an error');

done_testing();

# Are there workers in exactly these databases, and do they stay?
sub has_workers
{
	my $expected = join ',', @_;
	my $query    = q{SELECT coalesce(string_agg(datname, ',' ORDER BY datname), '') FROM pg_stat_activity
		WHERE backend_type = 'screenshot_task worker'};

	$node->poll_query_until('postgres', $query, $expected) or return 0;
	sleep 1;
	return $node->safe_psql('postgres', $query) eq $expected;
}
