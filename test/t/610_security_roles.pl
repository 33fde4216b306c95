# Roles that log in, and a worker that sends: each request goes with the credentials of the role that made it, whatever
# another did to have it otherwise; and a request that is not a role's own can be neither seen nor felt.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my %key  = map { ($_ => [ "AKID$_", "KeyOf$_" ]) } qw(app victim owner public);
my $api  = LiveApi->new(map { ('--account', join ':', @$_) } @key{ sort keys %key });
my $node = ScreenshotTaskTest->start_new('main');

$node->add_server('tencent_live', $api, account => undef);
for my $role (qw(app victim owner bare))
{
	$node->safe_psql('postgres', "CREATE ROLE $role LOGIN; CREATE SCHEMA $role AUTHORIZATION $role; GRANT INSERT ON screenshot_task_request TO $role;"
		  . "GRANT USAGE ON FOREIGN SERVER tencent_live TO $role");
	$node->safe_psql('postgres', "CREATE USER MAPPING FOR $role SERVER tencent_live OPTIONS (" . ScreenshotTaskTest::account_options(@{ $key{$role} }) . ')')
	  if $key{$role};
}

# To send takes INSERT, USAGE and a mapping.
my $bare = insert_sql(stream_name => 'bare');
is_deeply($node->try($bare, user => 'bare')->{error}, undef, 'a role without a mapping requests');
ok($node->wait_for_log(qr/paused for 5 s\n.*DETAIL:  role bare has no user mapping for server "tencent_live"\n/), 'and the log says what is missing');
is($node->try(call_sql(stream_name => 'bare'), user => 'bare')->{error}{sqlstate}, '28000', 'nor may it call');
is($api->requests + 0, 0, 'nothing was sent with the credentials of another');

# Whoever makes it, by whatever route, is whose credentials it is sent with.
$node->safe_psql('postgres', $_) for (
	q{CREATE TABLE victim.event (stream_name text)},
	q{CREATE TRIGGER t AFTER INSERT ON victim.event FOR EACH ROW EXECUTE FUNCTION screenshot_task_trigger('domain_name:=d', 'app_name:=a', 'template_id:=1', 'end_time:=}
	  . $node->safe_psql('postgres', q{SELECT now() + '1 hour'}) . q{')},
	q{ALTER TABLE victim.event OWNER TO victim; GRANT USAGE ON SCHEMA victim TO PUBLIC; GRANT INSERT ON victim.event TO app},
	q{CREATE VIEW victim.lent AS SELECT * FROM screenshot_task_request; ALTER VIEW victim.lent OWNER TO victim; GRANT INSERT ON victim.lent TO app});
my $forge  = insert_sql(stream_name => 'forged', requested_by => 'victim', status => 'created');
my $view   = insert_sql(stream_name => 'view') =~ s/INTO screenshot/INTO victim.lent_screenshot/r =~ s/lent_screenshot_task_request/lent/r;
my $member = 'SET ROLE victim;' . insert_sql(stream_name => 'member');
my $ambush = 'CREATE FUNCTION app.ambush() RETURNS void LANGUAGE sql AS $$' . insert_sql(stream_name => 'ambush') . '$$';
my $lend   = 'CREATE FUNCTION victim.lend() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$' . insert_sql(stream_name => 'lend') . '$$';

is_deeply($node->try($_->[1], user => $_->[0])->{error}, undef, "$_->[0]: " . substr $_->[1], 0, 40)
  for [ app => $forge ], [ app => q{INSERT INTO victim.event VALUES ('trigger')} ], [ app => $view ], [ app => $ambush ], [ victim => $lend ],
  [ victim => 'SET search_path = public; SET ROLE victim;' . insert_sql(stream_name => 'own') ], [ app => 'SELECT victim.lend()' ];
$node->safe_psql('postgres', 'GRANT USAGE ON SCHEMA app TO victim');
is_deeply($node->try('SELECT app.ambush()', user => 'victim')->{error}, undef, 'a function of another runs as whoever calls it');
is($node->try("BEGIN; $member", user => 'app')->{error}{sqlstate}, '42501', 'SET ROLE is for members');
is($node->try("BEGIN; SET SESSION AUTHORIZATION victim; $bare", user => 'app')->{error}{sqlstate}, '42501', 'SET SESSION AUTHORIZATION for superusers');
$node->safe_psql('postgres', 'GRANT victim TO app');
is_deeply($node->try($member, user => 'app')->{error}, undef, 'a member may SET ROLE');
$node->safe_psql('postgres', 'REVOKE victim FROM app');
my $copy = $node->try("COPY screenshot_task_request (stream_name, requested_by) FROM stdin;\n\\.\n", user => 'app')->{error};
is($copy->{sqlstate}, '0A000', 'COPY is not for roles under row-level security');
is($copy->{message}, 'COPY FROM not supported with row-level security', 'and says so');

ok($node->wait_for_table("status = 'created'", where => "requested_by <> 'bare'"), 'all are sent');
my %sent_with = (forged => 'app', trigger => 'app', view => 'app', ambush => 'victim', lend => 'victim', member => 'victim', own => 'victim');
for my $stream (sort keys %sent_with)
{
	is_deeply([ map { $_->{headers}{authorization} =~ m{Credential=(\w+)/} } $api->requests(stream_name => $stream) ],
		[ $key{ $sent_with{$stream} }[0] ], "$stream: sent with the credentials of $sent_with{$stream}");
	is_deeply([ map { [ @$_{qw(requested_by status)} ] } $node->table("stream_name = '$stream'") ], [ [ $sent_with{$stream}, 'created' ] ],
		"$stream: as its own request");
}

# A role that is renamed is the same role.
my $referred = insert_sql(stream_name => 'renamed', reference => 'a reference') =~ s{;\s*\z}{}r . ' ON CONFLICT DO NOTHING RETURNING id';
$node->set('screenshot_task.enabled' => 'off');
is_deeply($node->try($referred, user => 'victim')->{error}, undef, 'a role requests');
$node->safe_psql('postgres', 'ALTER ROLE victim RENAME TO heir');
is_deeply($node->try($referred, user => 'heir')->{rows}, [], 'renamed, it has its references');
is_deeply($node->try("SELECT stream_name FROM screenshot_task_request WHERE reference = 'a reference'", user => 'heir')->{rows}, [ ['renamed'] ], 'and sees its requests');
$node->set('screenshot_task.enabled' => 'on');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'renamed'"), 'they are sent');
is_deeply([ map { $_->{requested_by} } $node->table("stream_name = 'renamed'") ], ['heir'], 'and named after it as it is now');
is_deeply([ map { $_->{headers}{authorization} =~ m{Credential=(\w+)/} } $api->requests(stream_name => 'renamed') ], [ $key{victim}[0] ], 'with its credentials');
$node->safe_psql('postgres', 'ALTER ROLE heir RENAME TO victim');

# One of the same name that is made later is another: it neither has the requests nor are they sent with its credentials.
my $make = "CREATE ROLE brief LOGIN; GRANT INSERT ON screenshot_task_request TO brief; GRANT USAGE ON FOREIGN SERVER tencent_live TO brief;"
  . 'CREATE USER MAPPING FOR brief SERVER tencent_live OPTIONS (' . ScreenshotTaskTest::account_options(@{ $key{public} }) . ')';
my $early = insert_sql(stream_name => 'early', reference => 'a reference');
$node->set('screenshot_task.enabled' => 'off');
$node->safe_psql('postgres', $make);
is_deeply($node->try($early, user => 'brief')->{error}, undef, 'a role requests');
$node->safe_psql('postgres', "DROP OWNED BY brief; DROP ROLE brief; $make");
my $early_id = ($node->table("stream_name = 'early'"))[0]{id};
is_deeply($node->try('SELECT count(*) FROM screenshot_task_request', user => 'brief')->{rows}, [ [0] ], 'dropped and made anew, it has none');
is($node->try("SELECT $_($early_id)", user => 'brief')->{error}{message}, "screenshot task request $early_id does not exist", "$_: none of its own")
  for qw(cancel_screenshot_task_request retry_screenshot_task_request);
my $offset = $node->log_size;
is_deeply($node->try($early =~ s/early/late/r, user => 'brief')->{error}, undef, 'it requests by the same reference');
$node->set('screenshot_task.enabled' => 'on');
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'late'"), 'and that is sent');
ok($node->wait_for_log(qr/paused for 5 s\n.*DETAIL:  role with OID \d+, which made the requests, was dropped; cancel them with cancel_screenshot_task_request\(\)\n/, $offset),
	'the log says what the other waits for');
is_deeply([ $api->requests(stream_name => 'early') ], [], 'it is not sent');
is($node->safe_psql('postgres', "SELECT cancel_screenshot_task_request($early_id)"), 't', 'and is for the owner to cancel');
is_deeply([ map { [ @$_{qw(requested_by status attempts)} ] } $node->table("stream_name = 'early'") ], [ [ 'brief', 'cancelled', 0 ] ], 'as the request of whom it was');

# A request that somebody has locked is not to be felt by another.
my $id     = ($node->table("stream_name = 'own'"))[0]{id};
my $holder = $node->begin("BEGIN; SELECT FROM screenshot_task_request WHERE id = $id FOR UPDATE; SELECT pg_advisory_lock(1); SELECT pg_sleep(60);");
ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted)"), 'a request is locked');
for my $call ("cancel_screenshot_task_request($id)", "retry_screenshot_task_request($id)", "resolve_screenshot_task_request($id, NULL)")
{
	my $error = $node->try("SET lock_timeout = '2s'; SELECT $call", user => 'app')->{error};

	is($error->{sqlstate}, '42704', "$call: is not waited for");
	is($error->{message}, "screenshot task request $id does not exist", "$call: there is none");
	is($node->try("SET lock_timeout = '100ms'; SELECT $call", user => 'victim')->{error}{sqlstate}, '55P03', "$call: its own is");
}
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'");
$holder->end;

# Operators of a caller's own are not run as the owner of the table.
my $trap = q{CREATE FUNCTION trap(%1$s, %1$s) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN IF current_user <> 'app' THEN ALTER ROLE app SUPERUSER; END IF; RETURN NULL; END $$;}
  . q{CREATE OPERATOR = (LEFTARG = %1$s, RIGHTARG = %1$s, FUNCTION = trap);};
is_deeply($node->try(join('', 'SET search_path = app;', map { sprintf $trap, $_ } qw(bigint text name integer timestamptz)), user => 'app')->{error}, undef, 'a trap is laid');
$id = ($node->table("stream_name = 'forged'"))[0]{id};
is($node->try("SET search_path = app, pg_catalog; SELECT public.cancel_screenshot_task_request($id); SELECT public.adopt_screenshot_task_requests()", user => 'app')->{error},
	undef, 'its own request is none of the traps');
is($node->safe_psql('postgres', "SELECT rolsuper FROM pg_roles WHERE rolname = 'app'"), 'f', 'and it is no superuser');

# A table owned by an ordinary role, which may have triggers on it: they run as that role, in the worker too, and cannot
# become another.
my $deed = q{CREATE FUNCTION owner.deed() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE attempt text; BEGIN
	FOREACH attempt IN ARRAY ARRAY['RESET ROLE', 'SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION',
		'ALTER ROLE owner SUPERUSER', 'CREATE TEMP TABLE t ()', 'SELECT FROM pg_authid', 'SELECT umoptions[1] FROM pg_user_mapping',
		'SELECT pg_read_file(''postgresql.conf'')', 'SET session_replication_role = replica', 'LISTEN x', 'SET CONSTRAINTS ALL DEFERRED'] LOOP
		BEGIN EXECUTE attempt; INSERT INTO owner.deeds VALUES (attempt, 'ok', current_user, session_user);
		EXCEPTION WHEN OTHERS THEN INSERT INTO owner.deeds VALUES (attempt, SQLSTATE, current_user, session_user); END;
	END LOOP;
	PERFORM set_config('synchronous_commit', 'off', false), set_config('search_path', 'owner', false), set_config('default_transaction_read_only', 'on', false);
	RETURN NEW; END $$};
$node->safe_psql('postgres', 'GRANT CREATE ON SCHEMA public TO owner; ALTER TABLE screenshot_task_request OWNER TO owner');
is($node->try("CREATE TABLE owner.deeds (attempt text, outcome text, who name, session name); $deed;"
		  . 'CREATE TRIGGER deed BEFORE UPDATE ON screenshot_task_request FOR EACH ROW EXECUTE FUNCTION owner.deed();'
		  . 'ALTER TABLE screenshot_task_request FORCE ROW LEVEL SECURITY', user => 'owner')->{error}, undef, 'an ordinary role owns the table');
for my $n (1 .. 2)
{
	is_deeply($node->try(insert_sql(stream_name => "owned $n"), user => 'victim')->{error}, undef, "request $n of another is taken");
	ok($node->wait_for_table("status = 'created'", where => "stream_name = 'owned $n'"), 'and sent, policies that the owner forces on itself or not');
}
my %outcome = map { ($_->{attempt} => $_->{outcome}) } $node->rows('SELECT DISTINCT attempt, outcome FROM owner.deeds');
is_deeply(\%outcome, { (map { ($_ => '42501') } 'RESET ROLE', 'SET ROLE postgres', 'SET SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION',
		'ALTER ROLE owner SUPERUSER', 'CREATE TEMP TABLE t ()', 'SELECT FROM pg_authid', 'SELECT umoptions[1] FROM pg_user_mapping',
		q{SELECT pg_read_file('postgresql.conf')}, 'SET session_replication_role = replica', 'LISTEN x'), 'SET CONSTRAINTS ALL DEFERRED' => 'ok' }, 'a trigger of the owner is refused all that is not the owner\'s');
is_deeply([ $node->rows('SELECT DISTINCT who FROM owner.deeds') ], [ { who => 'owner' } ], 'and runs as the owner');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolsuper"), 1, 'there is one superuser, as before');
is_deeply([ map { $_->{headers}{authorization} =~ m{Credential=(\w+)/} } $api->requests(stream_name => 'owned 2') ], [ $key{victim}[0] ],
	'it is sent with the credentials of the role that made it');
is_deeply($node->try("SELECT cancel_screenshot_task_request($id)", user => 'app')->{error}, undef, 'a role steers its request all the same');
is($node->safe_psql('postgres', 'SELECT count(*) FROM screenshot_task_request', extra_params => [ '-U', 'app' ]), 3, 'and sees its own');

is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
