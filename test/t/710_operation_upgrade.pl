# pg_upgrade with the library preloaded, ALTER EXTENSION UPDATE under sessions that have the library, logical replication
# to a subscriber with the extension, and a dump by an ordinary owner: nothing is lost, and nothing is sent twice.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Path qw(make_path);
use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api  = LiveApi->new;
my $old  = ScreenshotTaskTest->start_new('old', wal_level => 'logical', max_wal_senders => 4, max_replication_slots => 4, 'screenshot_task.sweep_interval' => '1s');
my $conf = "shared_preload_libraries = 'screenshot_task'\nscreenshot_task.sweep_interval = 1s\nwal_level = logical\n";
my $held = qr/WARNING:  \d+ screenshot task requests? (?:is|are) held: (?:it|they) came in a dump or a copy of a database\n/;
my $columns = 'id, stream_name, requested_by, status, attempts, task_id';
my $dir  = PostgreSQL::Test::Utils::tempdir;

# Logical replication, to a database of the same cluster and with the same server
$old->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT INSERT ON screenshot_task_request TO app; CREATE DATABASE subscriber');
$old->add_server('tencent_live', $api);
$old->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER tencent_live TO app; CREATE PUBLICATION p FOR TABLE screenshot_task_request');
$old->safe_psql('subscriber', 'CREATE EXTENSION screenshot_task');
$old->add_server('tencent_live', $api, dbname => 'subscriber');
$old->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('s', 'pgoutput')});
$old->safe_psql('subscriber', 'CREATE SUBSCRIPTION s CONNECTION ' . literal($old->connstr('postgres')) . ' PUBLICATION p WITH (create_slot = false)');
$old->safe_psql('postgres', 'SET ROLE app;' . insert_sql(rows => 2, stream_name => 'replicated')
	  . insert_sql(stream_name => 'later', start_time => \"now() + interval '30 d'", end_time => \"now() + interval '30 d 1 h'"));
ok($old->wait_for_table("status = 'created'", where => "stream_name = 'replicated'"), 'the publisher sends');
ok($old->poll_query_until('subscriber', q{SELECT count(*) = 2 FROM screenshot_task_request WHERE status = 'created'}), 'the subscriber has it');
$old->set('screenshot_task.enabled' => 'off');
$old->safe_psql('postgres', insert_sql(stream_name => 'pending'));
ok($old->poll_query_until('subscriber', q{SELECT count(*) = 1 FROM screenshot_task_request WHERE stream_name = 'pending'}), 'a pending request is replicated');
$old->safe_psql('subscriber', 'ALTER SUBSCRIPTION s DISABLE');
$old->safe_psql('subscriber', 'UPDATE screenshot_task_request SET next_attempt_at = NULL');
$old->set('screenshot_task.enabled' => 'on');
ok($old->wait_for_table("status = 'created'", where => "stream_name = 'pending'"), 'the publisher sends it');
$old->safe_psql('subscriber', insert_sql(stream_name => 'of the subscriber') =~ s/\(app_name/(id, app_name/r =~ s/SELECT /OVERRIDING SYSTEM VALUE SELECT 1000, /r);
ok($old->wait_for_table("status = 'created'", dbname => 'subscriber', where => 'id = 1000'), 'the subscriber sends what is its own');
ok($old->wait_for_log($held), 'and says that the others are held');
is_deeply([ sort map { $_->{stream_name} } $api->ledger(event => 'create') ], [ 'of the subscriber', 'pending', 'replicated', 'replicated' ], 'but does not send them');
$old->safe_psql('subscriber', 'ALTER SUBSCRIPTION s SET (slot_name = NONE)');
$old->safe_psql('subscriber', 'DROP SUBSCRIPTION s');
$old->safe_psql('postgres', q{SELECT pg_drop_replication_slot('s')});
$old->safe_psql('postgres', 'DROP DATABASE subscriber');

# A dump by a role that owns the table, and no more than that; and by one that does not
my $dump = "$dir/dump.sql";
$old->safe_psql('postgres', 'CREATE ROLE owner LOGIN; GRANT CREATE ON SCHEMA public TO owner; ALTER TABLE screenshot_task_request OWNER TO owner');
is(system('pg_dump', '-d', $old->connstr('postgres') . ' user=owner', '-f', $dump), 0, 'an ordinary owner dumps');
my $text = PostgreSQL::Test::Utils::slurp_file($dump);
is(scalar(() = $text =~ /^\d+\t.*\tapp\t.*\n/mg), 3, 'the requests are in the dump');
unlike($text, qr/$LiveApi::account[1]/, 'and secrets are not');
isnt(system("pg_dump -d '" . $old->connstr('postgres') . " user=app' -f $dump.app 2>$dump.err"), 0, 'another role does not');
like(PostgreSQL::Test::Utils::slurp_file("$dump.err"), qr/query would be affected by row-level security policy|permission denied|may lack SELECT privilege/, 'and is told why');
$old->safe_psql('postgres', 'ALTER TABLE screenshot_task_request OWNER TO postgres; REVOKE CREATE ON SCHEMA public FROM owner');

# pg_upgrade, with the library preloaded on both sides
my $new = ScreenshotTaskTest->new('new');
$new->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$new->append_conf('postgresql.conf', $conf . "max_connections = 60\n");
$old->set('screenshot_task.enabled' => 'off');
$old->safe_psql('postgres', insert_sql(rows => 2, stream_name => 'before'));
my @before = $old->rows("SELECT $columns FROM screenshot_task_request ORDER BY id");
$old->stop;
my $sent = $api->requests + 0;
chomp(my $bindir = `pg_config --bindir`);
chdir $dir or die "chdir: $!";
is(system("pg_upgrade -b $bindir -B $bindir -d " . $old->data_dir . ' -D ' . $new->data_dir . ' -p ' . $old->port . ' -P ' . $new->port
		  . " -s $dir >$dir/upgrade.log 2>&1"), 0, 'pg_upgrade works') or diag(PostgreSQL::Test::Utils::slurp_file("$dir/upgrade.log"));
is($api->requests + 0, $sent, 'and sends nothing');
$new->start;
is_deeply([ $new->rows("SELECT $columns FROM screenshot_task_request ORDER BY id") ], \@before, 'the requests are there');
ok($new->wait_for_log($held), 'the log says that they are held');
is($api->requests + 0, $sent, 'and nothing was sent');
is($new->safe_psql('postgres', 'SELECT adopt_screenshot_task_requests()'), 3, 'they are adopted');
ok($new->wait_for_table("status = 'created'", where => "stream_name = 'before'"), 'and sent');
is($api->ledger(event => 'create', stream_name => 'before') + 0, 2, 'once each');
is_deeply($new->try(insert_sql(stream_name => 'after'))->{error}, undef, 'numbers go on');
$new->stop;

# ALTER EXTENSION UPDATE, in an installation of its own that has later versions
my $installation = installation();
my $updated = ScreenshotTaskTest->new('updated', install_path => $installation);
$updated->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$updated->append_conf('postgresql.conf', "$conf");
$updated->start;
$updated->safe_psql('postgres', 'CREATE EXTENSION screenshot_task; CREATE TABLE go ()');
$updated->add_server('tencent_live', $api);
my $enqueue = "SELECT enqueue_screenshot_task('enqueued', 'd', 'a', now() + interval '1 h', 1) IS NOT NULL;";
my $session = $updated->begin(insert_sql(stream_name => 'session') . $enqueue
	  . 'SELECT pg_advisory_lock(1); DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.05); END LOOP; END $$;'
	  . insert_sql(stream_name => 'session') . $enqueue . 'SELECT new_in_1_1();');
ok($updated->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory')}), 'a session has the library, and plans');
is_deeply($updated->try("ALTER EXTENSION screenshot_task UPDATE TO '1.1'")->{error}, undef, 'the extension is updated');
$updated->safe_psql('postgres', 'INSERT INTO go DEFAULT VALUES');
my $result = $session->end;
is_deeply($result->{error}, undef, 'the session goes on');
is($result->{rows}[-1][0], '1.1', 'with what is new');
ok($updated->wait_for_table("status = 'created' AND priority = 7", where => "stream_name IN ('session', 'enqueued')"), 'its requests are sent');
is($api->ledger(event => 'create', stream_name => $_) + 0, 2, "$_: once each") for qw(session enqueued);
my $error = $updated->try("ALTER EXTENSION screenshot_task UPDATE TO '1.2'")->{error};
is($error->{sqlstate}, '42883', 'SQL that is later than the library is refused');
like($error->{message}, qr/^could not find function "new_in_1_2" in file "/, 'and the error says what is missing');
is($updated->safe_psql('postgres', q{SELECT extversion FROM pg_extension WHERE extname = 'screenshot_task'}), '1.1', 'the version is as before');

# A table that lacks columns of the library's: of a version before it
$updated->safe_psql('postgres', 'CREATE TABLE oldest (id bigint); CREATE TRIGGER t BEFORE INSERT ON oldest FOR EACH ROW EXECUTE FUNCTION screenshot_task_request_insert();
	ALTER EXTENSION screenshot_task DROP TABLE screenshot_task_request; ALTER EXTENSION screenshot_task ADD TABLE oldest');
$error = $updated->try('INSERT INTO oldest VALUES (1)')->{error};
is_deeply([ @$error{qw(sqlstate message hint)} ], [ '55000', 'table "oldest" lacks columns of this version of screenshot_task', 'Run ALTER EXTENSION screenshot_task UPDATE.' ],
	'a table of an earlier version: the error says what to do');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# A copy of the server's programs, with links to all else, and with versions 1.1 and 1.2 of the extension.  PostgreSQL
# finds its files from where its program is.
sub installation
{
	my %at = map { chomp(my $path = `pg_config --$_`); ($_ => $path) } qw(bindir pkglibdir libdir sharedir);

	make_path(map { dirname("$dir/installation$_") } values %at);
	make_path("$dir/installation$at{sharedir}/extension");
	system("cp -a $at{bindir} $dir/installation$at{bindir}") == 0 or die;
	for my $lib (grep { !-e "$dir/installation$_" } @at{qw(pkglibdir libdir)})
	{
		symlink $lib, "$dir/installation$lib" or die "symlink $lib: $!";
	}
	for my $file (grep { !m{/extension$} } glob "$at{sharedir}/* $at{sharedir}/extension/*")
	{
		symlink $file, "$dir/installation$file" or die "symlink $file: $!";
	}
	PostgreSQL::Test::Utils::append_to_file("$dir/installation$at{sharedir}/extension/screenshot_task--1.0--1.1.sql",
		"ALTER TABLE \@extschema\@.screenshot_task_request ADD COLUMN priority pg_catalog.int4 DEFAULT 7;\n"
		  . "CREATE FUNCTION \@extschema\@.new_in_1_1() RETURNS pg_catalog.text LANGUAGE sql RETURN '1.1';\n");
	PostgreSQL::Test::Utils::append_to_file("$dir/installation$at{sharedir}/extension/screenshot_task--1.1--1.2.sql",
		"CREATE FUNCTION \@extschema\@.new_in_1_2() RETURNS pg_catalog.void AS 'MODULE_PATHNAME', 'new_in_1_2' LANGUAGE C;\n");
	return dirname("$dir/installation$at{bindir}");
}
