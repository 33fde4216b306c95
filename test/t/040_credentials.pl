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
	log_min_messages => 'debug5',
	log_statement    => 'all',
	shared_buffers   => '4MB');
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

# Nobody has the role's credentials yet, and all want them.
my @sessions = map { $node->begin(call_sql(server => 'role', stream_name => 'many'), user => 'app') } 1 .. SESSIONS;
$node->safe_psql('postgres', insert_sql(server => 'role', stream_name => 'many'));
is_deeply([ map { $_->end->{error} } @sessions ], [ (undef) x SESSIONS ], 'role: many sessions at once');
ok($node->wait_for_table("status = 'created'"), 'role: and the worker');
is_deeply([ map { $_->{asked} } $api->metadata_requests ], [qw(name set)], 'role: what one has fetched serves all');
is($api->requests(secret_id => 'AKIDROLE1', outcome => 'TaskId'), SESSIONS + 1, 'role: the API takes it');

my %id = (env => $env[0], file => $file[0], role => 'AKIDROLE1');
for my $server (sort keys %id)
{
	is($node->try(call_sql(server => $server, stream_name => 'call'), user => 'app')->{error}, undef, "$server: a call");
	is($node->try(insert_sql(server => $server, stream_name => 'row'), user => 'app')->{error}, undef, "$server: a row");
	ok($node->wait_for_table("status = 'created'", where => "server = '$server'"), "$server: the worker");
	is($api->requests(secret_id => $id{$server}, stream_name => $_, outcome => 'TaskId'), 1, "$server: a $_ is sent with it") for qw(call row);
	my $preview = $node->try(call_sql(server => $server) =~ s/create_/preview_/r, user => 'app');
	is($preview->{error}, undef, "$server: a preview");
	unlike(join("\n", map { @$_ } @{ $preview->{rows} }), $secret, "$server: which shows no secret");
}

# A mapping that there is says nothing: the server's option does.
$node->safe_psql('postgres', "CREATE USER MAPPING FOR app SERVER env OPTIONS (secret_id '$other[0]', secret_key '$other[1]')");
is($node->try(call_sql(server => 'env', stream_name => 'mapped'), user => 'app')->{error}, undef, 'a user mapping is not needed');
is($api->requests(secret_id => $env[0], stream_name => 'mapped'), 1, 'nor used');

# ----------------------------------------------------------------------------------------------- File

# It is read at each use, comments, other sections and keys included.
write_file("# a comment\r\n; another\r\n[other]\nsecret_id = AKIDWRONG\n\n[ default ]\n secret_id = $other[0]\t\nsecret_key=$other[1]\nregion = x\ntoken =\n[more]\nsecret_key = wrong");
is($node->try(call_sql(server => 'file', stream_name => 'other'), user => 'app')->{error}, undef, 'file: it is read anew');
is($api->requests(secret_id => $other[0], stream_name => 'other', outcome => 'TaskId'), 1, 'file: and used');

my $set = "secret_id = a\nsecret_key = bNobodyMaySee\n";
for my $fault (
	[ "[default]\nsecret_key = b$file[1]\n", qr/^credentials file "\Q$file\E" has no secret_id in its section \[default\]$/, 'no secret_id' ],
	[ "[default]\nsecret_id = a\n[x]\nsecret_key = b\n", qr/^credentials file "\Q$file\E" has no secret_key in its section \[default\]$/, 'no secret_key' ],
	[ $set, qr/has no secret_id in its section/, 'no section' ],
	[ '', qr/has no secret_id in its section/, 'nothing' ],
	[ "[default\n$set", qr/^line 1 of credentials file "\Q$file\E" is not valid$/, 'a section without an end' ],
	[ "[default]\n${set}keyNobodyMaySee\n", qr/^line 4 of credentials file .* is not valid$/, 'a line without a value' ],
	[ "[default]\n${set}secret_key = second\n", qr/^line 4 of credentials file .* is not valid$/, 'a key twice' ],
	[ "[default]\nsecret_id = a\nsecret_key = NobodyMaySee\rX-Forged: 1\n", qr/^line 3 of credentials file .* is not valid$/, 'a forged header' ],
	[ "[default]\n${set}token = NobodyMaySee\x01\n", qr/^line 4 of credentials file .* is not valid$/, 'a token that cannot be one' ],
	[ "[default]\nsecret_id = a/b\n", qr/^line 2 of credentials file .* is not valid$/, 'a secret_id that cannot be one' ],
	[ "[default]\n${set}\0\n", qr/^credentials file .* is not a text file$/, 'a NUL' ],
	[ "[default]\n$set" . '#' x 70000, qr/^credentials file .* is too large$/, 'too much' ])
{
	my ($text, $message, $what) = @$fault;

	write_file($text);
	my $error = fails($node->try(call_sql(server => 'file'), user => 'app'), '28000', $message, "file: $what");
	unlike(join("\n", map { $_ // '' } %$error), $secret, "file: $what: the error shows no secret");
}
write_file("[default]\nsecret_id=$file[0]\nsecret_key=$file[1]\ntoken=$file[2]\n");
for my $mode (qw(0640 0620 0604 0602 0611 0700 0400))
{
	my $result;

	chmod oct $mode, $file or die "could not chmod: $!";
	$result = $node->try(call_sql(server => 'file', stream_name => "mode $mode"), user => 'app');
	if ($mode =~ /00$/) { is($result->{error}, undef, "file: permissions $mode") }
	else
	{
		my $error = fails($result, '28000', qr/^credentials file "\Q$file\E" can be read or written by others than its owner$/, "file: permissions $mode");
		like($error->{hint}, qr/chmod 0600/, "file: permissions $mode: what to do");
	}
}
# A row waits until the file is mended.
chmod 0644, $file or die "could not chmod: $!";
$node->safe_psql('postgres', insert_sql(server => 'file', stream_name => 'unsafe'));
ok(wait_until(sub { $node->log_text =~ /of role postgres for server "file" are paused for 5 s\n.*DETAIL:  credentials file .* can be read or written by others/ }), 'file: the worker pauses, and says why');
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
is($result->{error}, undef, 'file: replaced all the time');
is(@{ $result->{rows} }, 60, 'file: all calls are done');
write_file("[default]\nsecret_id=$file[0]\nsecret_key=$file[1]\ntoken=$file[2]\n");

# -------------------------------------------------------------------------------------- Who may set it

$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN DATA WRAPPER tencent_cloud TO app; CREATE ROLE boss LOGIN SUPERUSER; GRANT boss TO app');
my $refused = qr/^permission denied to set options of a server/;
fails($node->try("CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (credentials '$_')", user => 'app'), '42501', $refused, "app may not create a server with $_") for qw(environment file role);
fails($node->try("CREATE SERVER s FOREIGN DATA WRAPPER tencent_cloud OPTIONS (metadata_endpoint 'http://127.0.0.1')", user => 'app'), '42501', $refused, 'nor with a metadata_endpoint');
is($node->try("CREATE SERVER mine FOREIGN DATA WRAPPER tencent_cloud OPTIONS (credentials 'user_mapping', endpoint 'https://127.0.0.1:1')", user => 'app')->{error}, undef, 'it may create one with user mappings');
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
is($node->try(call_sql(server => 'env'), user => 'app')->{error}, undef, 'a server of any superuser lends the credentials');
my $error = fails($node->try(call_sql(server => 'file'), user => 'app'), '42501', qr/^server "file" may not send with credentials of this machine, since its owner is not a superuser$/, 'one of another owner does not');
is($error->{detail}, 'Its option "credentials" is "file", and its owner is app.', 'why');
like($error->{hint}, qr/OWNER TO a superuser/, 'what to do');
fails($node->try(call_sql(server => 'file')), '42501', qr/its owner is not a superuser$/, 'not even to a superuser');
fails($node->try(call_sql(server => 'file') =~ s/create_/preview_/r), '42501', qr/its owner is not a superuser$/, 'nor for a preview');
my $asked = $api->requests;
$node->safe_psql('postgres', insert_sql(server => 'file', stream_name => 'lent'));
ok(wait_until(sub { $node->log_text =~ /for server "file" are paused for \d+ s\n.*DETAIL:  server "file" may not send with credentials of this machine/ }), 'nor to the worker, which pauses');
is($api->requests, $asked, 'nothing was sent');
is($node->try("ALTER SERVER file OPTIONS (DROP credentials)", user => 'app')->{error}, undef, 'its owner may do without');
$node->safe_psql('postgres', "ALTER SERVER file OWNER TO postgres; ALTER SERVER file OPTIONS (ADD credentials 'file')");
ok($node->wait_for_table("status = 'created'"), 'a superuser mends it, and nothing is lost');
$node->safe_psql('postgres', 'ALTER ROLE boss NOSUPERUSER');
fails($node->try(call_sql(server => 'env'), user => 'app'), '42501', qr/its owner is not a superuser$/, 'an owner who is a superuser no longer');
$node->safe_psql('postgres', 'ALTER SERVER env OWNER TO postgres');

# ------------------------------------------------------------------------------------- TokenFailure

my %newer = (role => 'AKIDROLE2', file => $file[0], env => $env[0]);
for my $server (sort keys %newer)
{
	my @before = $api->metadata_requests(asked => 'set');

	$api->order(fault => 'error=AuthFailure.TokenFailure', stream => "token call $server", times => 1);
	is($node->try(call_sql(server => $server, stream_name => "token call $server"))->{error}, undef, "$server: a call whose token is refused once");
	is_deeply([ map { [ @$_{qw(outcome secret_id)} ] } $api->requests(stream_name => "token call $server") ],
		[ [ 'AuthFailure.TokenFailure', $id{$server} ], [ 'TaskId', $newer{$server} ] ], "$server: is sent once more");
	is($api->metadata_requests(asked => 'set') - @before, $server eq 'role' ? 1 : 0, "$server: with what was read anew");
	is($api->ledger(stream_name => "token call $server"), 1, "$server: it was done once");
}
$api->order(fault => 'error=AuthFailure.TokenFailure', stream => 'token twice', times => 2);
fails($node->try(call_sql(server => 'role', stream_name => 'token twice')), '28000', qr/^server "role" refused the credentials for CreateScreenshotTask$/, 'role: refused twice');
is_deeply([ map { $_->{secret_id} } $api->requests(stream_name => 'token twice') ], [qw(AKIDROLE2 AKIDROLE3)], 'role: it was tried twice');

# All rows under way are refused, and it still is one fetch, no pause, and one task each.
for my $server (qw(role file))
{
	my $fetched = $api->metadata_requests(asked => 'set');
	my $paused  = () = $node->log_text =~ /server "$server" are paused/g;

	$node->safe_psql('postgres', insert_sql(server => $server, stream_name => "warm $server"));
	ok($node->wait_for_table("status = 'created'"), "$server: a connection");
	$api->order(fault => 'error=AuthFailure.TokenFailure', stream => "token row $server *", times => ROWS);
	$node->safe_psql('postgres', insert_sql(server => $server, stream_name => \"'token row $server ' || i", rows => ROWS));
	ok($node->wait_for_table("status = 'created' AND attempts = 1"), "$server: rows whose token is refused");
	is_deeply([ map { scalar $api->ledger(stream_name => "token row $server $_") } 1 .. ROWS ], [ (1) x ROWS ], "$server: one task each");
	is($api->requests(outcome => 'AuthFailure.TokenFailure', stream_name => "token row $server $_") <= ROWS, 1, "$server: row $_") for 1;
	cmp_ok($api->metadata_requests(asked => 'set') - $fetched, '<=', $server eq 'role' ? ROWS : 0, "$server: no more was fetched");
}

done_testing();

# ------------------------------------------------------------------------------------------- Helpers

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
