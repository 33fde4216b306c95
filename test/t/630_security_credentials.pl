# Credentials of the machine: from the server's environment, from a file, and of the machine's role.  Each is used
# by calls and by the worker, is lent only on a superuser's word, and is seen nowhere.
#
# The metadata service is the stand-in's.  Each set that it hands out has a secret_id of its own, so that what
# arrives at the API tells which set it was signed with.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant { SESSIONS => 12, ROWS => 10 };

my $directory = PostgreSQL::Test::Utils::tempdir('credentials');
my $file      = "$directory/credentials";
my @env       = ('AKIDENV',  'envKeyNobodyMaySee',  'envTokenNobodyMaySee=');
my @file      = ('AKIDFILE', 'fileKeyNobodyMaySee', 'fileTokenNobodyMaySee=');
my @other     = ('AKIDOTHER', 'otherKeyNobodyMaySee');
my $secret    = qr/NobodyMaySee/;

my $api = LiveApi->new('--metadata', map { ('--account', join ':', @$_) } \@env, \@file, \@other);
my @variables = qw(TENCENTCLOUD_SECRET_ID TENCENTCLOUD_SECRET_KEY TENCENTCLOUD_SESSION_TOKEN);
@ENV{@variables} = @env;
$ENV{TENCENTCLOUD_CREDENTIALS_FILE} = $file;
write_file("[default]\nsecret_id=$file[0]\nsecret_key=$file[1]\ntoken=$file[2]\n");

my $node = ScreenshotTaskTest->start_new('main',
	log_statement    => 'all',
	shared_buffers   => '4MB');
# Not from the start: at this level PostgreSQL begins with its whole environment.
$node->set(log_min_messages => 'debug5');
my %options = (request_timeout => '10s', account => undef);
$node->add_server('env',  $api, %options, credentials => 'environment');
$node->add_server('file', $api, %options, credentials => 'file');
$node->add_server('role', $api, %options, credentials => 'role', metadata_endpoint => $api->metadata_endpoint);
$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT INSERT ON screenshot_task_request TO app');

# ------------------------------------------------------------------ Used, by those who have USAGE, in both ways

for my $server (qw(env file role))
{
	fails($node->try(call_sql(server => $server), user => 'app'), '42501', qr/^permission denied for foreign server $server$/, "$server: not without USAGE");
}
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER env, file, role TO app');

# Each process has a set of its own, with one fetch, however many of its calls and roles want it at once.
$api->set_metadata(delay => 0.4);
my @sessions = map { $node->begin(call_sql(server => 'role', stream_name => 'many') x 2, user => 'app') } 1 .. SESSIONS;
$node->safe_psql('postgres', 'GRANT app TO postgres;' . insert_sql(server => 'role', stream_name => 'many') . 'SET ROLE app;' . insert_sql(server => 'role', stream_name => 'many', rows => 3));
is_deeply([ map { $_->end->{error} } @sessions ], [ (undef) x SESSIONS ], 'role: many sessions at once');
ok($node->wait_for_table("status = 'created'"), 'role: and the worker, for two roles');
is(scalar $api->metadata_requests(asked => $_), SESSIONS + 1, "role: each asks for its $_ once") for qw(name set);
my %signed;
$signed{ $_->{secret_id} }++ for $api->requests(stream_name => 'many', outcome => 'TaskId');
is_deeply([ sort { $a <=> $b } values %signed ], [ (2) x SESSIONS, 4 ], 'role: and the API takes it');

$api->set_metadata;
my %id = (env => qr/^$env[0]$/, file => qr/^$file[0]$/, role => qr/^AKIDROLE\d+$/);
for my $server (sort keys %id)
{
	is_deeply($node->try(call_sql(server => $server, stream_name => 'call'), user => 'app')->{error}, undef, "$server: a call");
	is_deeply($node->try(insert_sql(server => $server, stream_name => 'row'), user => 'app')->{error}, undef, "$server: a row");
	ok($node->wait_for_table("status = 'created'", where => "server = '$server'"), "$server: the worker");
	my @sent = grep { $_->{secret_id} =~ $id{$server} } map { $api->requests(stream_name => $_, outcome => 'TaskId') } qw(call row);
	is_deeply([ map { $_->{stream_name} } @sent ], [qw(call row)], "$server: both are sent with it");
	my $preview = $node->try(call_sql(server => $server) =~ s/create_/preview_/r, user => 'app');
	is_deeply($preview->{error}, undef, "$server: a preview");
	unlike(join("\n", map { @$_ } @{ $preview->{rows} }), $secret, "$server: which shows no secret");
}

# A mapping that there is says nothing: the server's option does.
$node->safe_psql('postgres', "CREATE USER MAPPING FOR app SERVER env OPTIONS (secret_id 'AKIDMAPPED', secret_key 'aKeyInAMapping')");
is_deeply($node->try(call_sql(server => 'env', stream_name => 'mapped'), user => 'app')->{error}, undef, 'a user mapping is not needed');
is($api->requests(secret_id => $env[0], stream_name => 'mapped'), 1, 'nor used');

# ----------------------------------------------------------------------------------------------- File

# It is read at each use, comments, other sections and keys included.
write_file("# a comment\r\n; another\r\n[other]\nsecret_id = AKIDWRONG\nnot a key\n  continued\n[not a section\n\n[ default ]\n secret_id = $other[0]\t\nsecret_key=$other[1]\nregion = x\ntoken =\n[more]\nsecret_key = wrong\nsecret_key\n\"");
is_deeply($node->try(call_sql(server => 'file', stream_name => 'other'), user => 'app')->{error}, undef, 'file: it is read anew');
is($api->requests(secret_id => $other[0], stream_name => 'other', outcome => 'TaskId'), 1, 'file: and used');

my $set = "secret_id = a\nsecret_key = bNobodyMaySee\n";
for my $fault (
	[ "[default]\nsecret_key = b$file[1]\n", qr/^credentials file "\Q$file\E" has no secret_id in section \[default\]$/, 'no secret_id' ],
	[ "[default]\nsecret_id = a\n[x]\nsecret_key = b\n", qr/^credentials file "\Q$file\E" has no secret_key in section \[default\]$/, 'no secret_key' ],
	[ $set, qr/has no secret_id in section/, 'no section' ],
	[ '', qr/has no secret_id in section/, 'nothing' ],
	[ "[default\n$set", qr/^invalid line 1 in credentials file "\Q$file\E"$/, 'a section without an end' ],
	[ "[default]\n${set}keyNobodyMaySee\n", qr/^invalid line 4 in credentials file .*$/, 'a line without a value' ],
	[ "[default]\n${set}secret_key = second\n", qr/^invalid line 4 in credentials file .*$/, 'a key twice' ],
	[ "[default]\nsecret_id = a\nsecret_key = NobodyMaySee\rX-Forged: 1\n", qr/^invalid line 3 in credentials file .*$/, 'a forged header' ],
	[ "[default]\n${set}token = NobodyMaySee\x01\n", qr/^invalid line 4 in credentials file .*$/, 'a token that cannot be one' ],
	[ "[default]\nsecret_id = a/b\n", qr/^invalid line 2 in credentials file .*$/, 'a secret_id that cannot be one' ],
	[ "[default]\n${set}\0\n", qr/^credentials file .* is not a text file$/, 'a NUL' ],
	[ "[default]\n$set" . '#' x 70000, qr/^credentials file .* is too large$/, 'too much' ])
{
	my ($text, $message, $what) = @$fault;

	write_file($text);
	my $error = fails($node->try(call_sql(server => 'file'), user => 'app'), '28000', $message, "file: $what");
	unlike(join("\n", map { $_ // '' } %$error), $secret, "file: $what: the error shows no secret");
}
# Some programs take quotes for part of the value, and some do not.
for my $quoted ('secret_id = "AKIDFILE"', "secret_key='keyNobodyMaySee'", 'token = "tokenNobodyMaySee" ')
{
	write_file("[default]\n$quoted\n");
	my $error = fails($node->try(call_sql(server => 'file'), user => 'app'), '28000', qr/^invalid line 2 in credentials file "\Q$file\E"$/, "file: $quoted");
	is_deeply([ @$error{qw(detail hint)} ], [ 'The value is in quotes, which would become part of it.', 'Write the value without quotes.' ], "file: $quoted: why, and what to do");
}
write_file("[default]\nsecret_id=$file[0]\nsecret_key=$file[1]\ntoken=$file[2]\n");
for my $mode (qw(0640 0620 0604 0602 0611 0700 0400))
{
	my $result;

	chmod oct $mode, $file or die "could not chmod: $!";
	$result = $node->try(call_sql(server => 'file', stream_name => "mode $mode"), user => 'app');
	if ($mode =~ /00$/) { is_deeply($result->{error}, undef, "file: permissions $mode") }
	else
	{
		my $error = fails($result, '28000', qr/^credentials file "\Q$file\E" has group or world access$/, "file: permissions $mode");
		like($error->{hint}, qr/chmod 0600/, "file: permissions $mode: what to do");
	}
}
# A row waits until the file is mended.
chmod 0644, $file or die "could not chmod: $!";
$node->safe_psql('postgres', insert_sql(server => 'file', stream_name => 'unsafe'));
ok(wait_until(sub { $node->log_text =~ /of role postgres for server "file" are paused for 5 s\n.*DETAIL:  credentials file .* has group or world access/ }), 'file: the worker pauses, and says why');
chmod 0600, $file or die "could not chmod: $!";
$node->reload;
ok($node->wait_for_table("status = 'created' AND attempts = 1"), 'file: and goes on once it is mended');
is($api->requests(stream_name => 'unsafe'), 1, 'file: nothing was sent before');

unlink $file or die "could not unlink: $!";
fails($node->try(call_sql(server => 'file')), '28000', qr/^could not open credentials file "\Q$file\E": No such file or directory$/, 'file: it is not there');
mkdir $file or die "could not mkdir: $!";
fails($node->try(call_sql(server => 'file')), '28000', qr/^credentials file "\Q$file\E" is not a regular file$/, 'file: a directory');
rmdir $file or die "could not rmdir: $!";
system('mkfifo', '-m', '0600', $file) == 0 or die 'could not make a pipe';
fails($node->try(call_sql(server => 'file')), '28000', qr/^credentials file "\Q$file\E" is not a regular file$/, 'file: a pipe, which is not waited for');
unlink $file or die "could not unlink: $!";

# A file that is replaced all the time never gives a mixture, which the API would refuse.
write_file("[default]\nsecret_id=$file[0]\nsecret_key=$file[1]\ntoken=$file[2]\n");
my $writer = fork // die "could not fork: $!";
if ($writer == 0)
{
	for (;;)
	{
		write_file("[default]\nsecret_id=$other[0]\nsecret_key=$other[1]\n");
		write_file("[default]\nsecret_id=$file[0]\nsecret_key=$file[1]\ntoken=$file[2]\n");
	}
}
my $result = $node->try(join '', map { call_sql(server => 'file', stream_name => "replaced $_") } 1 .. 60);
kill 'KILL', $writer;
waitpid $writer, 0;
is_deeply($result->{error}, undef, 'file: replaced all the time');
is(@{ $result->{rows} }, 60, 'file: all calls are done');
write_file("[default]\nsecret_id=$file[0]\nsecret_key=$file[1]\ntoken=$file[2]\n");

# -------------------------------------------------------------------------------------- Who may set it

$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN DATA WRAPPER tencent_cloud TO app; CREATE ROLE boss LOGIN SUPERUSER; GRANT boss TO app');
my $refused = qr/^permission denied to set options of a server/;
fails($node->try("CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (credentials '$_')", user => 'app'), '42501', $refused, "app may not create a server with $_") for qw(environment file role);
fails($node->try("CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (metadata_endpoint 'http://127.0.0.1')", user => 'app'), '42501', $refused, 'nor with a metadata_endpoint');
is_deeply($node->try("CREATE SERVER mine FOREIGN DATA WRAPPER tencent_cloud OPTIONS (credentials 'user_mapping', endpoint 'https://live.intl.tencentcloudapi.com')", user => 'app')->{error}, undef, 'it may create one with user mappings');
fails($node->try("ALTER SERVER mine OPTIONS (SET credentials 'role')", user => 'app'), '42501', $refused, 'and not make it another');
fails($node->try("ALTER SERVER mine OPTIONS (ADD metadata_endpoint 'http://127.0.0.1')", user => 'app'), '42501', $refused, 'nor say where the metadata are');

# A server of a superuser's of whom app is a member, and one that app has come to own
my $endpoint = $api->endpoint;
$node->safe_psql('postgres', "ALTER SERVER env OWNER TO boss; ALTER SERVER file OWNER TO app");
for my $server (qw(env file))
{
	fails($node->try("ALTER SERVER $server OPTIONS ($_)", user => 'app'), '42501', $refused, "$server: app may not $_")
	  for "SET endpoint 'https://127.0.0.1:2'", "ADD proxy 'http://127.0.0.1:3'", "DROP ca_file", "SET credentials 'role'";
}
is_deeply($node->try(call_sql(server => 'env'), user => 'app')->{error}, undef, 'a server of any superuser lends the credentials');
my $error = fails($node->try(call_sql(server => 'file'), user => 'app'), '42501', qr/^server "file" cannot be used with option "credentials" set to "file" because its owner is not a superuser$/, 'one of another owner does not');
is($error->{detail}, 'Its owner is app.', 'why');
like($error->{hint}, qr/OWNER TO a superuser/, 'what to do');
fails($node->try(call_sql(server => 'file')), '42501', qr/its owner is not a superuser$/, 'not even to a superuser');
fails($node->try(call_sql(server => 'file') =~ s/create_/preview_/r), '42501', qr/its owner is not a superuser$/, 'nor for a preview');
my $asked = $api->requests;
$node->safe_psql('postgres', insert_sql(server => 'file', stream_name => 'lent'));
ok(wait_until(sub { $node->log_text =~ /for server "file" are paused for \d+ s\n.*DETAIL:  server "file" cannot be used with option "credentials" set to "file"/ }), 'nor to the worker, which pauses');
is($api->requests, $asked, 'nothing was sent');
is_deeply($node->try("BEGIN; ALTER SERVER file OPTIONS (DROP credentials, DROP endpoint, DROP ca_file); ROLLBACK", user => 'app')->{error}, undef, 'its owner may do without');
$node->safe_psql('postgres', "ALTER SERVER file OWNER TO postgres");
ok($node->wait_for_table("status = 'created'"), 'a superuser mends it, and nothing is lost');
$node->safe_psql('postgres', 'ALTER ROLE boss NOSUPERUSER');
fails($node->try(call_sql(server => 'env'), user => 'app'), '42501', qr/its owner is not a superuser$/, 'an owner who is a superuser no longer');
$node->safe_psql('postgres', 'ALTER SERVER env OWNER TO postgres');

# ------------------------------------------------------------------------------------- TokenFailure

for my $server (sort keys %id)
{
	my @before = $api->metadata_requests(asked => 'set');

	$api->order(fault => 'error=AuthFailure.TokenFailure', stream => "token call $server", times => 1);
	is_deeply($node->try(call_sql(server => $server, stream_name => "token call $server"))->{error}, undef, "$server: a call whose token is refused once");
	my ($first, $second) = $api->requests(stream_name => "token call $server");
	is_deeply([ map { $_->{outcome} } $first, $second ], [ 'AuthFailure.TokenFailure', 'TaskId' ], "$server: is sent once more");
	is($first->{secret_id} eq $second->{secret_id}, $server ne 'role', "$server: with what was read anew");
	is($api->metadata_requests(asked => 'set') - @before, $server eq 'role' ? 2 : 0, "$server: once more than before the first");
	is($api->ledger(stream_name => "token call $server"), 1, "$server: it was done once");
}
$api->order(fault => 'error=AuthFailure.TokenFailure', stream => 'token twice', times => 2);
fails($node->try(call_sql(server => 'role', stream_name => 'token twice')), '28000', qr/^server "role" refused the credentials for CreateScreenshotTask$/, 'role: refused twice');
my @twice = map { $_->{secret_id} } $api->requests(stream_name => 'token twice');
is(@twice == 2 && $twice[0] ne $twice[1], 1, 'role: it was tried twice');

# A row: no pause, and a new set.  Many rows that are under way together: one task each.
for my $server (qw(role file))
{
	my $first = $api->metadata_requests(asked => 'set');

	$api->order(fault => 'error=AuthFailure.TokenFailure', stream => "token row $server", times => 1);
	$node->safe_psql('postgres', insert_sql(server => $server, stream_name => "token row $server"));
	ok($node->wait_for_table("status = 'created' AND attempts = 1"), "$server: a row whose token is refused once");
	is_deeply([ map { $_->{outcome} } $api->requests(stream_name => "token row $server") ], [qw(AuthFailure.TokenFailure TaskId)], "$server: it is sent once more");
	my @ids = map { $_->{secret_id} } $api->requests(stream_name => "token row $server");
	is($ids[0] eq $ids[1], $server eq 'file', "$server: with credentials read anew");
	is($api->metadata_requests(asked => 'set') - $first, $server eq 'role' ? 1 : 0, "$server: of one fetch");
	ok($node->log_text !~ qr/for server "$server" are paused for \d+ s\n.*DETAIL:  AuthFailure/, "$server: without a pause");

	$api->order(fault => 'error=AuthFailure.TokenFailure', stream => "token rows $server *", times => ROWS);
	$node->safe_psql('postgres', insert_sql(server => $server, stream_name => \"'token rows $server ' || i", rows => ROWS));
	ok($node->wait_for_table("status = 'created' AND attempts = 1"), "$server: rows whose tokens are refused");
	is_deeply([ map { scalar $api->ledger(stream_name => "token rows $server $_") } 1 .. ROWS ], [ (1) x ROWS ], "$server: one task each");
}

# Refused again, the channel pauses, and the next time it has a new set again.  But a change of a server, as those above, is
# heeded at the first look five seconds after the one before, and forgives a refusal: that look is had before.
sleep 6;
$node->safe_psql('postgres', insert_sql(server => 'role', stream_name => 'a look'));
ok($node->wait_for_table("status = 'created' AND attempts = 1"), 'role: no change is left to heed');
$api->order(fault => 'error=AuthFailure.TokenFailure', stream => 'token row twice', times => 2);
$node->safe_psql('postgres', insert_sql(server => 'role', stream_name => 'token row twice'));
ok(wait_until(sub { $node->log_text =~ /for server "role" are paused for \d+ s\n.*DETAIL:  AuthFailure\.TokenFailure/ }), 'role: refused twice, the channel pauses');
ok($node->wait_for_table("status = 'created' AND attempts = 1"), 'role: and goes on');
my %used = map { $_->{secret_id} => 1 } $api->requests(stream_name => 'token row twice');
is(keys %used, 3, 'role: with another set each time');

# ------------------------------------------------------------------------------------------ Renewal

# 300 s before a set ends it is renewed, by a session and by the worker; but fetches are 10 s apart.
my @errors;
my $caller = Caller->new($node);
my @machines;
for my $way ([ session => sub { call_machine($_[0]) } ], [ worker => sub { $node->safe_psql('postgres', insert_sql(server => $_[0])) } ])
{
	my ($by, $use) = @$way;
	my $machine = LiveApi->new('--metadata');

	push @machines, $machine;
	$machine->set_metadata(lives => [ 305, 305, 3600 ]);
	$node->add_server("machine_$by", $machine, %options, credentials => 'role', metadata_endpoint => $machine->metadata_endpoint);
	for my $id ('AKIDROLE2', 'AKIDROLE3')
	{
		ok(wait_until(sub { $use->("machine_$by"); $machine->requests(secret_id => $id) > 0 }), "renewal by the $by: $id");
	}
	$use->("machine_$by") for 1 .. 5;
	ok($node->wait_for_table("status = 'created' AND attempts = 1"), "renewal by the $by: no row fails");
	is_deeply(\@errors, [], "renewal by the $by: and no call");
	is($machine->metadata_requests(asked => 'set'), 3, "renewal by the $by: none too many");
	cmp_ok(least_distance($machine), '>', 9.5, "renewal by the $by: nor too soon");
	is($machine->requests(outcome => 'TaskId'), scalar $machine->requests, "renewal by the $by: the API refuses none");
}
ok($node->log_text !~ qr/could not renew/, 'renewal: nothing to complain of');
# A service that hands out what ends sooner is not asked all the time.  If it fails, the old set is used.
my $poor = LiveApi->new('--metadata');
$poor->set_metadata(lives => [60]);
$node->add_server('poor', $poor, %options, credentials => 'role', metadata_endpoint => $poor->metadata_endpoint);
ok(wait_until(sub { call_machine('poor'); $poor->requests(secret_id => 'AKIDROLE2') > 0 }), 'renewal: of what ends too soon');
$poor->set_metadata(name => { status => 500 });
ok(wait_until(sub { call_machine('poor'); $node->log_text =~ /could not refresh the credentials of the instance role: "127\.0\.0\.1:\d+" returned HTTP status 500\n.*DETAIL:  Current credentials expire in \d+ s\./ }), 'renewal: that fails is logged');
call_machine('poor') for 1 .. 5;
is_deeply(\@errors, [], 'renewal: no call fails then');
cmp_ok(least_distance($poor), '>', 9.5, 'renewal: nor is the service asked too often');

# --------------------------------------------------------------------- Faults of the metadata service

my $faulty = LiveApi->new('--metadata');
my $peer   = $faulty->metadata_endpoint =~ s{http://}{}r;
$faulty->set_metadata(lives => [9]);
$node->add_server('faulty', $faulty, %options, credentials => 'role', metadata_endpoint => $faulty->metadata_endpoint);
ok(wait_until(sub { call_machine('faulty'); $faulty->requests(secret_id => 'AKIDROLE2') > 0 }), 'a set that has ended is not used');
is_deeply(\@errors, [], 'another one is');

# Nothing is left of a set that is replaced.  The first is longer than those that come after it, and would not be written over.
my $long = 'longRoleNobodyMaySee' x 10;
$faulty->set_metadata(set => { body => sprintf '{"Code":"Success","TmpSecretId":"AKIDLONG","TmpSecretKey":"%s","Token":"%s","ExpiredTime":%d}', $long, "$long=", time + 9 });
my $keeper = Caller->new($node);
my $keeper_pid = $keeper->run('SELECT pg_backend_pid()') =~ s/\D//gr;
my $refused_call = "DO \$\$ BEGIN PERFORM " . (call_sql(server => 'faulty') =~ s/^SELECT \* FROM (.*);\n/$1/r) . '; EXCEPTION WHEN OTHERS THEN NULL; END $$';
$keeper->run($refused_call);
is((grep_memory($keeper_pid, 'p', "\0$long\0"))[0] > 0, 1, 'a session keeps a set');
$faulty->set_metadata;
my $before_it = $faulty->metadata_requests(asked => 'set');
ok(wait_until(sub { $keeper->run($refused_call); $faulty->metadata_requests(asked => 'set') > $before_it }), 'and fetches another when that has ended');
is_deeply([ grep_memory($keeper_pid, 'p', "\0$long\0", "\"$long\"") ], [ 0, 0 ], 'of the first nothing is left');
$keeper->end;

$faulty->set_metadata(name => { status => 404 });
ok(wait_until(sub { $node->try(call_sql(server => 'faulty'))->{error} }), 'and if there is none, a call fails');

my $good = '"Code":"Success","TmpSecretId":"AKIDX","TmpSecretKey":"keyNobodyMaySee","Token":"tokenNobodyMaySee","ExpiredTime":4102444800';
my $sent = $faulty->requests;
my @service_faults = (
	[ { name => { status => 404 } }, qr/"$peer" returned HTTP status 404: the machine has no instance role$/, 'no role' ],
	[ { name => { status => 302 } }, qr/"$peer" returned HTTP status 302$/, 'elsewhere' ],
	[ { name => { body => '' } },  qr/"$peer" returned no role name$/, 'an empty name' ],
	(map { [ { name => { body => $_ } }, qr/"$peer" returned an invalid role name$/, 'the name ' . printable($_) ] }
		  '../../../x', '..', 'a..b', '.a', "two\nroles", 'a b', 'a/b', 'a?b', 'a%2e', "a\0b", 'x' x 129),
	[ { name => { body => 'x', repeat => 70000 } }, qr/gave up an answer from "$peer": it is longer than 64 kB$/, 'a huge name' ],
	[ { name => { hang => 1 } }, qr/got no complete answer from "$peer": /, 'a name that does not come' ],
	[ { set => { hang => 1 } }, qr/got no complete answer from "$peer": /, 'a set that does not come' ],
	[ { set => { status => 500 } }, qr/"$peer" returned HTTP status 500$/, 'an error' ],
	[ { set => { body => '{"x":1}', repeat => 20000 } }, qr/gave up an answer from "$peer": it is longer than 64 kB$/, 'a huge set' ],
	(map { [ { set => { body => $_ } }, qr/"$peer" did not return a JSON object$/, "garbage: " . printable($_) ] }
		  '', 'NobodyMaySee', '<html>', '[]', '{', '{}x', "{$good", "{$good}x", "{$good,}", "{$good,\"x\":\"NobodyMaySee}", "{$good,\"x\":[1,{\"y\":[}]}",
		  "{$good,\"x\":\"\\x\"}", "{$good,\"x\":\"\\u12\"}", "{$good}\0", '{"x":' . '[' x 50 . ']' x 50 . '}', '{"ExpiredTime":99999999999999999999}', '{"Code":1}'),
	[ { set => { body => '{}' } }, qr/"$peer" returned no Code$/, 'no Code' ],
	[ { set => { body => "{$good,\"Code\":\"NobodyMaySee\"}" } }, qr/"$peer" returned a Code other than "Success"$/, 'another Code' ],
	(map { my $field = $_; [ { set => { body => '{' . $good =~ s/"$field"/"x"/r . '}' } }, qr/"$peer" returned no $field$/, "no $field" ] }
		  qw(TmpSecretId TmpSecretKey Token ExpiredTime)),
	(map { my ($field, $value) = @$_; [ { set => { body => "{$good,\"$field\":\"$value\"}" } }, qr/"$peer" returned an invalid $field$/, "$field $value" ] }
		  [ TmpSecretId => 'a\\r\\nX-Forged: 1' ], [ TmpSecretId => 'a/b' ], [ TmpSecretKey => 'two words' ], [ TmpSecretKey => '\\u00e9' ], [ Token => 'a\\u000ab' ], [ Token => '' ]),
	[ { set => { body => "{$good,\"ExpiredTime\":1}" } }, qr/"$peer" returned credentials that have expired by this machine's clock$/, 'ended long ago' ]);
for my $fault (@service_faults)
{
	my ($orders, $problem, $what) = @$fault;

	$faulty->set_metadata(%$orders);
	my $failure = fails($node->try(call_sql(server => 'faulty'), user => 'app'), '42501', qr/^permission denied/, "$what, without USAGE") if $what eq 'no role';
	$failure = fails($node->try(call_sql(server => 'faulty')), '28000', qr/^could not get the credentials of the instance role: $problem/, "faulty: $what");
	unlike(join("\n", map { $_ // '' } %$failure), $secret, "faulty: $what: the error shows no secret");
}
is($faulty->requests, $sent, 'faulty: nothing was sent to the API');

# A service that hangs holds up nobody else, and no transaction is open while it does.
$faulty->set_metadata(name => { hang => 1 });
my $cancelled = fails($node->try("SET statement_timeout = '300ms'; " . call_sql(server => 'faulty')), '57014', qr/^canceling statement due to statement timeout$/, 'a call that waits can be cancelled');
is($cancelled->{context}, 'CreateScreenshotTask on server "faulty": nothing had been sent', 'it says what was done');
my $names = $faulty->metadata_requests(asked => 'name');
$node->safe_psql('postgres', insert_sql(server => 'faulty', stream_name => 'held') . insert_sql(server => 'env', stream_name => \"'meanwhile ' || i", rows => 30));
ok(wait_until(sub { $faulty->metadata_requests(asked => 'name') > $names }), 'the worker asks');
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = 'env'"), 'another server goes on');
ok(wait_until(sub { $node->log_text =~ /of role postgres for server "faulty" are paused for \d+ s\n.*DETAIL:  could not get the credentials of the instance role: got no complete answer from "$peer"/ }), 'the channel pauses, and says why');
$names = $faulty->metadata_requests(asked => 'name');
my $offset = $node->log_size;
my @open;
$node->reload;
ok(wait_until(sub { $faulty->metadata_requests(asked => 'name') > $names }), 'after a reload the worker asks again');
until ($node->log_text($offset) =~ /for server "faulty" are paused/)
{
	my $open = $node->safe_psql('postgres', "SELECT xact_start IS NOT NULL FROM pg_stat_activity WHERE backend_type = 'screenshot_task worker'");

	push @open, $open if $node->log_text($offset) !~ /for server "faulty" are paused/;
}
is(@open == 0 || grep({ $_ eq 'f' } @open) > 0, 1, 'no transaction is open meanwhile');
is_deeply([ map { [ @$_{qw(status attempts)} ] } $node->table("server = 'faulty'") ], [ [ 'pending', 0 ] ], 'its row is pending');
my $hanging = $node->begin(call_sql(server => 'faulty'));
my $query   = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%create_screenshot_task%' AND pid <> pg_backend_pid() AND state = 'active'";
$node->poll_query_until('postgres', "SELECT EXISTS ($query)");
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM ($query) AS s");
like($hanging->end->{error}{sqlstate} // 'gone', qr/^(57P01|28000|gone)$/, 'a session that waits can be ended');
$faulty->set_metadata;
is_deeply($node->try(call_sql(server => 'faulty'))->{error}, undef, 'which is in nobody\'s way');
$node->reload;
ok($node->wait_for_table("status = 'created' AND attempts = 1"), 'and nothing is lost');
is($faulty->ledger(stream_name => 'held'), 1, 'nor done twice');

# --------------------------------------------------------------------------------- Seen by nobody

# What "poor" had was good for a minute, which may be over.
$poor->set_metadata;
my $session = $node->begin(join '', map { call_sql(server => $_) } qw(env file role machine_session poor faulty));
is_deeply($session->end->{error}, undef, 'all are used once more');
my $idle = $node->begin(join('', map { call_sql(server => $_) } qw(file role)) . "SELECT pg_sleep(600) AS idle");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"), 'a session that has used them');
my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'");
unlike($node->safe_psql('postgres', 'SELECT * FROM pg_stat_activity'), $secret, 'not in pg_stat_activity');
for my $process (worker => $node->worker_pid, session => $pid)
{
	next if $process =~ /\D/;
	my ($library, $seen) = grep_memory($process, 's', 'screenshot_task', 'NobodyMaySee');

	is($library > 0, 1, "process $process: the shared memory is looked through");
	is($seen, 0, "process $process: there is no secret in it");
	($library, $seen) = grep_memory($process, 'p', 'screenshot_task', 'fileKeyNobodyMaySee');
	is($library > 0, 1, "process $process: its own memory is looked through");
	is($seen, 0, "process $process: the file's key is not in it");
}
$node->safe_psql('postgres', "CHECKPOINT; SELECT pg_terminate_backend($pid)");
$idle->end;
is(system('grep', '-rqs', 'NobodyMaySee', $node->data_dir) >> 8, 1, 'not in the data directory');
is(system('grep', '-rqs', 'AKIDMAPPED', $node->data_dir) >> 8, 0, 'where a user mapping would be');
ok($node->log_text !~ $secret, 'not in the log');

# ------------------------------------------------------------- Neither variables nor shared memory

$caller->end;
$node->stop;
my $home = PostgreSQL::Test::Utils::tempdir('home');
delete @ENV{ @variables, 'TENCENTCLOUD_CREDENTIALS_FILE' };
$ENV{HOME} = $home;
my $plain = ScreenshotTaskTest->start_new('plain', shared_preload_libraries => '');
$plain->add_server('env',  $api, %options, credentials => 'environment');
$plain->add_server('file', $api, %options, credentials => 'file');
$plain->add_server('role', $faulty, %options, credentials => 'role', metadata_endpoint => $faulty->metadata_endpoint);
fails($plain->try(call_sql(server => 'env')), '28000', qr/^environment variable TENCENTCLOUD_SECRET_ID is not set$/, 'no secret_id in the environment');

SKIP:
{
	skip '/etc/tencentcloud/credentials exists', 3 if -e '/etc/tencentcloud/credentials';
	my $none = fails($plain->try(call_sql(server => 'file')), '28000', qr/^could not find a credentials file$/, 'no file');
	is($none->{detail}, qq(Neither "$home/.tencentcloud/credentials" nor "/etc/tencentcloud/credentials" exists.), 'no file: where');
}
mkdir "$home/.tencentcloud" or die "could not mkdir: $!";
rename $file, "$home/.tencentcloud/credentials" or die "could not rename: $!";
is_deeply($plain->try(call_sql(server => 'file', stream_name => 'home'))->{error}, undef, 'a file in the home directory');
is($api->requests(secret_id => $file[0], stream_name => 'home', outcome => 'TaskId'), 1, 'is used');

my $fetched = $faulty->metadata_requests(asked => 'set');
for my $n (1 .. 2)
{
	is_deeply($plain->try(call_sql(server => 'role') x 3)->{error}, undef, "session $n has credentials of the role");
	is($faulty->metadata_requests(asked => 'set'), $fetched + $n, "session $n has fetched one set of its own");
}

for my $fault (
	[ { TENCENTCLOUD_SECRET_ID => 'a' }, 'env', qr/^environment variable TENCENTCLOUD_SECRET_KEY is not set$/ ],
	[ { TENCENTCLOUD_SECRET_ID => 'a', TENCENTCLOUD_SECRET_KEY => '' }, 'env', qr/^environment variable TENCENTCLOUD_SECRET_KEY is not set$/ ],
	[ { TENCENTCLOUD_SECRET_ID => "a\nX-Forged: 1" }, 'env', qr/^invalid value for environment variable TENCENTCLOUD_SECRET_ID$/ ],
	[ { TENCENTCLOUD_SECRET_ID => 'a', TENCENTCLOUD_SECRET_KEY => 'NobodyMaySee NobodyMaySee' }, 'env', qr/^invalid value for environment variable TENCENTCLOUD_SECRET_KEY$/ ],
	[ { TENCENTCLOUD_SECRET_ID => 'a', TENCENTCLOUD_SECRET_KEY => 'b', TENCENTCLOUD_SESSION_TOKEN => 'NobodyMaySee"' }, 'env', qr/^invalid value for environment variable TENCENTCLOUD_SESSION_TOKEN$/ ],
	[ { TENCENTCLOUD_SECRET_ID => 'a', TENCENTCLOUD_SECRET_KEY => '"NobodyMaySee"' }, 'env', qr/^invalid value for environment variable TENCENTCLOUD_SECRET_KEY$/ ],
	[ { TENCENTCLOUD_SECRET_ID => 'a', TENCENTCLOUD_SECRET_KEY => 'b', TENCENTCLOUD_SECURITY_TOKEN => 'NobodyMaySee"' }, 'env', qr/^invalid value for environment variable TENCENTCLOUD_SECURITY_TOKEN$/ ],
	[ { TENCENTCLOUD_CREDENTIALS_FILE => 'credentials' }, 'file', qr/^environment variable TENCENTCLOUD_CREDENTIALS_FILE is not an absolute path$/ ])
{
	my ($environment, $server, $message) = @$fault;
	local %ENV = (%ENV, %$environment);

	$plain->restart;
	my $failure = fails($plain->try(call_sql(server => $server)), '28000', $message, join ' ', sort keys %$environment);
	unlike(join("\n", map { $_ // '' } %$failure), $secret, 'which shows no secret');
	is($failure->{hint}, 'Write the value without quotes.', 'quotes: what to do') if grep { /^".*"$/ } values %$environment;
}

# The vendor's programs have three names for the token.  The first that is set is taken.
my @tokens = map { "TENCENTCLOUD_$_" } qw(SESSION_TOKEN TOKEN SECURITY_TOKEN);
for my $first (0 .. $#tokens)
{
	local @ENV{ @variables[ 0, 1 ] } = @env[ 0, 1 ];
	local @ENV{@tokens} = (('') x $first, $env[2], ('another') x (@tokens - $first - 1));

	$plain->restart;
	is_deeply($plain->try(call_sql(server => 'env'))->{error}, undef, "a token in $tokens[$first]");
}
ok($plain->log_text !~ $secret, 'nor does the log');
is($_->complaints, '', 'the stand-in has nothing to complain of') for $api, @machines, $poor, $faulty;

done_testing();

# ------------------------------------------------------------------------------------------- Helpers

# In a session that stays, and keeps what it has fetched
sub call_machine
{
	my ($server) = @_;
	my $error = $caller->run("DO \$\$ BEGIN PERFORM " . (call_sql(server => $server) =~ s/^SELECT \* FROM (.*);\n/$1/r)
		  . "; EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', SQLERRM; END \$\$");

	push @errors, $error if $error ne '';
	return;
}

# The beginning of a text, for the name of a test
sub printable { return substr($_[0], 0, 20) =~ s/[^ -~]/?/gr }

# The shortest time between two fetches, in seconds
sub least_distance
{
	my ($service) = @_;
	my @times = map { $_->{time} } $service->metadata_requests(asked => 'name');

	return (sort { $a <=> $b } map { $times[$_] - $times[ $_ - 1 ] } 1 .. $#times)[0];
}

# How often texts occur in what a process can write to: memory that is shared ("s"), or private ("p")
sub grep_memory
{
	my ($process, $kind, @texts) = @_;
	my @counts = map { 0 } @texts;
	my $overlap = 4096;

	open my $memory, '<:raw', "/proc/$process/mem" or die "could not open the memory of $process: $!";
	for my $line (split /\n/, PostgreSQL::Test::Utils::slurp_file("/proc/$process/maps"))
	{
		my ($start, $end) = $line =~ /^([0-9a-f]+)-([0-9a-f]+) rw.$kind / or next;
		my $tail = '';

		no warnings 'portable';
		for (my $at = hex $start; $at < hex $end;)
		{
			my $chunk;

			sysseek($memory, $at, 0) && sysread($memory, $chunk, 1 << 20) or last;
			$at += length $chunk;
			$chunk = $tail . $chunk;
			$counts[$_] += () = $chunk =~ /\Q$texts[$_]\E/g for 0 .. $#texts;
			$tail = substr $chunk, -$overlap;
		}
	}
	close $memory;
	return @counts;
}

# Replace the credentials file, as a whole.
sub write_file
{
	my ($text) = @_;

	unlink "$file.new";
	umask 0077;
	open my $handle, '>', "$file.new" or die "could not open $file.new: $!";
	print $handle $text;
	close $handle or die "could not write $file.new: $!";
	rename "$file.new", $file or die "could not rename $file.new: $!";
	return;
}

# Returns the error.
sub fails
{
	my ($outcome, $sqlstate, $message, $what) = @_;
	my $failure = $outcome->{error} // {};

	is($failure->{sqlstate}, $sqlstate, "$what: SQLSTATE");
	like($failure->{message} // '', $message, "$what: message");
	return $failure;
}

# A session that stays
package Caller;

sub new
{
	my ($class, $server) = @_;
	my $self = bless { in => '', out => '' }, $class;

	$self->{psql} = IPC::Run::start([ 'psql', '-XAtq', '-d', $server->connstr('postgres') ], '<', \$self->{in}, '>', \$self->{out}, '2>&1');
	return $self;
}

# Run SQL; returns what is said of it.
sub run
{
	my ($self, $sql) = @_;

	$self->{in} = "$sql;\n\\echo done\n";
	$self->{psql}->pump until $self->{out} =~ s/(.*)done\n//s;
	return $1;
}

sub end
{
	my ($self) = @_;

	$self->{in} = "\\q\n";
	$self->{psql}->finish;
	return;
}
