# A server, user mapping, privilege or role that is gone pauses those whose requests need it; the log says
# why; and once it is there again the requests are sent.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

my $api     = LiveApi->new;
my $node    = ScreenshotTaskTest->start_new('main', 'screenshot_task.enabled' => 'off');
my $mapping = 'OPTIONS (' . ScreenshotTaskTest::account_options(@LiveApi::account) . ')';
my $server  = "FOREIGN DATA WRAPPER tencent_cloud OPTIONS (endpoint '@{[ $api->endpoint ]}', ca_file '@{[ $api->ca_file ]}')";

# What goes, what the log says of it, and how it comes back
my %losses = (
	server => {
		drop   => 'DROP SERVER server CASCADE',
		reason => 'server "server" does not exist',
		mend   => "CREATE SERVER server $server; CREATE USER MAPPING FOR app SERVER server $mapping; GRANT USAGE ON FOREIGN SERVER server TO app"
	},
	mapping => {
		drop   => 'DROP USER MAPPING FOR app SERVER mapping',
		reason => 'role app has no user mapping for server "mapping"',
		mend   => "CREATE USER MAPPING FOR app SERVER mapping $mapping"
	},
	key => {
		# which no statement but this allows
		drop   => "UPDATE pg_user_mapping SET umoptions = ARRAY['secret_id=$LiveApi::account[0]'] WHERE umserver = (SELECT oid FROM pg_foreign_server WHERE srvname = 'key')",
		reason => 'user mapping of role app for server "key" has no secret_key',
		mend   => "ALTER USER MAPPING FOR app SERVER key OPTIONS (ADD secret_key '$LiveApi::account[1]')"
	},
	privilege => {
		drop   => 'REVOKE USAGE ON FOREIGN SERVER privilege FROM app',
		reason => 'permission denied for foreign server privilege',
		mend   => 'GRANT USAGE ON FOREIGN SERVER privilege TO app'
	});

$node->safe_psql('postgres', 'CREATE ROLE app LOGIN; GRANT INSERT ON screenshot_task_request TO app');
for my $name (sort keys %losses, 'good')
{
	$node->safe_psql('postgres', "CREATE SERVER $name $server; CREATE USER MAPPING FOR app SERVER $name $mapping;"
		  . "GRANT USAGE ON FOREIGN SERVER $name TO app");
	is_deeply($node->try(insert_sql(rows => 2, server => $name, stream_name => $name), user => 'app')->{error}, undef, "$name: requests are taken");
}
$node->safe_psql('postgres', join ';', map { $losses{$_}{drop} } sort keys %losses);
$node->set('screenshot_task.enabled' => 'on');

ok($node->wait_for_table("status = 'created'", where => "server = 'good'"), 'where nothing is missing, requests are sent');
for my $name (sort keys %losses)
{
	ok($node->wait_for_log(qr/LOG:  screenshot tasks of role app for server "$name" are paused for 5 s\n.*DETAIL:  $losses{$name}{reason}\n/),
		"$name: the log says what is missing");
	is_deeply([ map { [ @$_{qw(status attempts)} ] } $node->table("server = '$name'") ], [ ([ 'pending', 0 ]) x 2 ],
		"$name: its requests are pending, and have cost no attempt");
}
for my $name (sort keys %losses)
{
	$node->safe_psql('postgres', $losses{$name}{mend});
	ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = '$name'"), "$name: once it is there again, they are sent");
	is($api->ledger(stream_name => $name), 2, "$name: once each");
}

# A role
is($node->try(
		'BEGIN; SET ROLE app;' . insert_sql(server => 'good', stream_name => 'role') . 'RESET ROLE; DROP OWNED BY app; DROP ROLE app; COMMIT')->{error},
	undef, 'role: it requests something, and is dropped');
ok($node->wait_for_log(qr/LOG:  screenshot tasks of role app for server "good" are paused for 5 s\n.*DETAIL:  role with OID \d+, which made the requests, was dropped; cancel them with cancel_screenshot_task_request\(\)\n/),
	'role: the log says that it is gone');
is(($node->table("stream_name = 'role'"))[0]{status}, 'pending', 'role: its request is pending');
$node->safe_psql('postgres', "CREATE ROLE app; GRANT USAGE ON FOREIGN SERVER good TO app; GRANT INSERT ON screenshot_task_request TO app; CREATE USER MAPPING FOR app SERVER good $mapping");
$node->safe_psql('postgres', 'SET ROLE app;' . insert_sql(server => 'good', stream_name => 'anew'));
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'anew'"), 'role: one of that name is there again, and sends');
is(($node->table("stream_name = 'role'"))[0]{status}, 'pending', 'role: but not what another one requested');
$node->safe_psql('postgres', "UPDATE screenshot_task_request SET role = 'app'::regrole WHERE stream_name = 'role'");
$node->reload;
ok($node->wait_for_table("status = 'created'", where => "stream_name = 'role'"), 'role: unless the owner of the table says so');
is($api->ledger(stream_name => 'role'), 1, 'role: once');

is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
