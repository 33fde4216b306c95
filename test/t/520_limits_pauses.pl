# Faults of the account, the credentials, the service and the network pause a server, or a role's use of it, and
# not its rows.  Other servers go on.  The pause ends on its own, and at once when something is changed.
#
# Each pause in a row is twice as long as the one before: a second one "for 5 s" tells that the first one was
# ended, and did not end on its own.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant { ROWS => 5, GOOD_ROWS => 40 };

my @good    = ('AKIDGOOD', 'theKeyOfTheGoodOne');
my @hanging = ('AKIDHANGING', 'theKeyOfTheHangingOne');
my $api     = LiveApi->new(map { ('--account', join ':', @$_) } \@LiveApi::account, \@good, \@hanging);
my $absent  = LiveApi->new;
my $strange = LiveApi->new;
my $node    = ScreenshotTaskTest->start_new('main', 'screenshot_task.reconcile_grace' => '100ms',
	'screenshot_task.reconcile_spacing' => '300ms');

# Of each: who is paused, the fault, and how a change mends it
my $role   = 'of role postgres for';
my $server = 'for';
my %faults = (
	account     => { who => $role,   order => 'error=ResourceNotFound.StopService',    code => 'ResourceNotFound.StopService' },
	credentials => { who => $role,   order => 'error=AuthFailure.SecretIdNotFound',    code => 'AuthFailure.SecretIdNotFound' },
	service     => { who => $server, order => 'error=UnsupportedRegion',               code => 'UnsupportedRegion' },
	wrong_key   => { who => $role,   code  => 'AuthFailure.SignatureFailure', account => [ $LiveApi::account[0], 'wrong' ],
		mend => "ALTER USER MAPPING FOR PUBLIC SERVER wrong_key OPTIONS (SET secret_key '$LiveApi::account[1]')" },
	no_mapping  => { who => $role,   account => undef,
		mend => "CREATE USER MAPPING FOR postgres SERVER no_mapping OPTIONS (secret_id '$LiveApi::account[0]', secret_key '$LiveApi::account[1]')" },
	wrong_ca    => { who => $server, options => { ca_file => $strange->ca_file },
		mend => "ALTER SERVER wrong_ca OPTIONS (SET ca_file '@{[ $api->ca_file ]}')" },
	no_host     => { who => $server, options => { endpoint => "https://nowhere.invalid" },
		mend => "ALTER SERVER no_host OPTIONS (SET endpoint '@{[ $api->endpoint ]}')" },
	refused     => { who => $server, api => $absent, mend => sub { $absent->start; $node->reload } });

my $hint = { map { ($_ => '') } keys %faults };
$hint->{credentials} = 'The secret_id is wrong, .*\.  ';
$hint->{wrong_key}   = 'The secret_key probably does not belong to the secret_id\.  ';
$hint->{no_mapping}  = 'Create one with CREATE USER MAPPING .*\.  ';

$absent->stop;
$node->add_server('good', $api, account => \@good);
for my $name (sort keys %faults)
{
	my $fault = $faults{$name};

	$api->order(fault => $fault->{order}, stream => "$name *", times => 0) if $fault->{order};
	$node->add_server($name, $fault->{api} // $api, request_timeout => '2s', %{ $fault->{options} // {} },
		exists $fault->{account} ? (account => $fault->{account}) : ());
}
$node->safe_psql('postgres', join '', map { insert_sql(server => $_, stream_name => \"'$_ ' || i", rows => ROWS) } sort keys %faults);
ok(wait_until(sub { paused($_) == 1 }), "$_: a pause begins") for sort keys %faults;

# Another server is not slowed, and nobody loses anything.
$node->safe_psql('postgres', insert_sql(server => 'good', stream_name => \"'good ' || i", rows => GOOD_ROWS));
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = 'good'"), 'another server goes on');
for my $name (sort keys %faults)
{
	my $fault = $faults{$name};
	my @rows;

	# A pause may have ended meanwhile, and one be on its way once more.
	wait_until(sub { @rows = $node->table("server = '$name'"); !grep { $_->{status} eq 'sending' } @rows });
	is_deeply([ map { [ @$_{qw(status attempts task_id finished_at next_attempt_at)} ] } @rows ], [ ([ 'pending', 0, undef, undef, undef ]) x ROWS ], "$name: the rows are pending, and no attempt was counted");
	is(scalar(grep { ($_->{error_code} // '') eq $fault->{code} } @rows) > 0, 1, "$name: a row says why") if $fault->{code};
	like($node->log_text, qr/screenshot tasks $fault->{who} server "$name" are paused for 5 s\n.*DETAIL:  \S.*\n.*HINT:  $hint->{$name}The pause ends at any change of the server, of (?:the|a) user mapping or of (?:the|a) role, and at a reload\.\n/, "$name: log");
}
unlike($node->log_text, qr/server "good" (?:are|is) paused/, 'the other one was not paused');
is_deeply([ map { scalar $api->ledger(stream_name => "good $_") } 1 .. GOOD_ROWS ], [ (1) x GOOD_ROWS ], 'each of the others was made once');

# Changes end pauses, of all: what is not mended is paused anew, for as short a time as at first.
pauses_anew('ALTER SERVER', 'account', sub { $node->safe_psql('postgres', "ALTER SERVER account OPTIONS (ADD region 'ap-guangzhou')") });
pauses_anew('ALTER SERVER of another', 'account', sub { $node->safe_psql('postgres', "ALTER SERVER good OPTIONS (ADD region 'ap-guangzhou')") });
pauses_anew('ALTER USER MAPPING', 'credentials', sub { $node->safe_psql('postgres', "ALTER USER MAPPING FOR PUBLIC SERVER credentials OPTIONS (SET secret_key 'another')") });
pauses_anew('a reload', 'account', sub { $node->reload });
$node->safe_psql('postgres', "ALTER USER MAPPING FOR PUBLIC SERVER credentials OPTIONS (SET secret_key '$LiveApi::account[1]')");

# What is mended goes on, by the very statement that mends it.
for my $name (sort grep { $faults{$_}{mend} } keys %faults)
{
	my $mend = $faults{$name}{mend};

	ok(wait_until(sub { paused($name) > 0 }), "$name: it is paused");
	ref $mend ? $mend->() : $node->safe_psql('postgres', $mend);
	ok($node->wait_for_table("status = 'created'", where => "server = '$name'"), "$name: mended, it goes on");
}

# The others end on their own.
$api->clear_orders;
ok($node->wait_for_table("status = 'created'"), 'pauses end on their own');
for my $name (sort keys %faults)
{
	my $ledger = $faults{$name}{api} // $api;

	is_deeply([ map { $_->{attempts} } $node->table("server = '$name'") ], [ (1) x ROWS ], "$name: one attempt each");
	is_deeply([ map { $_->{task_id} } $node->table("server = '$name'") ], [ map { map { $_->{task_id} } $ledger->ledger(stream_name => "$name $_") } 1 .. ROWS ], "$name: one task each");
}

# Nor is it the API that answers without a code: what stands before it, or the wrong server.  That is seen before all
# requests are in doubt.
my $gateway = LiveApi->new('--limit', 1000);
$gateway->order(fault => 'status=502', stream => 'gateway *', times => 0);
$node->add_server('gateway', $gateway, request_timeout => '1s', requests_per_second => 1000);
$node->safe_psql('postgres', insert_sql(server => 'gateway', stream_name => \"'gateway ' || i", rows => 100));
ok(wait_until(sub { paused('gateway') == 1 }), 'a gateway: a pause begins');
like($node->log_text, qr/screenshot tasks for server "gateway" are paused for 5 s\n.*DETAIL:  HTTP status 502 instead of an answer from the API/, 'a gateway: and says why');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE server = 'gateway' AND status = 'pending' AND attempts = 0"), '>', 50, 'a gateway: most requests were not sent');
$gateway->clear_orders;
$node->reload;
ok($node->wait_for_table("status = 'created'", where => "server = 'gateway'"), 'a gateway: all are created once it is gone');
is_deeply([ map { scalar $gateway->ledger(stream_name => "gateway $_") } 1 .. 100 ], [ (1) x 100 ], 'a gateway: once each');

# A peer that accepts and never answers holds up nobody but itself, be it a full house of requests or a handshake.
my $mute = LiveApi->new('--account', join ':', @hanging);
$node->add_server('hanging', $api, account => \@hanging, request_timeout => '5min', ca_file => $api->ca_file_copy);
$node->add_server('mute', $mute, account => \@hanging, request_timeout => '5min', connect_timeout => '60s');
$mute->order(fault => 'hang-handshake', times => 0);
$api->order(fault => 'hang', stream => 'hanging *', times => 0);
$node->safe_psql('postgres', insert_sql(server => 'hanging', stream_name => 'warm'));
ok($node->wait_for_table("status = 'created'", where => "server = 'hanging'"), 'a server that is heard of');
$node->safe_psql('postgres', insert_sql(server => 'hanging', stream_name => \"'hanging ' || i", rows => 60) . insert_sql(server => 'mute', rows => 5));
my $in_flight = "SELECT count(*) FROM screenshot_task_request WHERE status = 'sending' AND server =";
ok($node->poll_query_until('postgres', "SELECT ($in_flight 'hanging') = 32 AND ($in_flight 'mute') > 0"), 'hangs with all that it may have in flight');
$node->safe_psql('postgres', insert_sql(server => 'good', stream_name => \"'meanwhile ' || i", rows => GOOD_ROWS));
ok($node->wait_for_table("status = 'created' AND attempts = 1", where => "server = 'good'"), 'another server goes on meanwhile');
is($node->safe_psql('postgres', "$in_flight 'hanging'"), 32, 'the one that hangs still does, with no more than it may have');
is($node->safe_psql('postgres', "$in_flight 'mute'"), 1, 'and so does the other, with one');
is($api->requests(secret_id => $hanging[0]), 33, 'no more was sent there');
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();

# How many pauses of 5 s a server has had
sub paused
{
	my ($name) = @_;

	return scalar(() = $node->log_text =~ /server "$name" are paused for 5 s\n/g);
}

sub pauses_anew
{
	my ($what, $name, $change) = @_;
	my $before = paused($name);

	$change->();
	ok(wait_until(sub { paused($name) > $before }), "$what ends the pause");
	is($node->safe_psql('postgres', "SELECT count(*) FROM screenshot_task_request WHERE server = '$name' AND status IN ('pending', 'sending') AND attempts <= 1"), ROWS, "$what: no row is the worse for it");
	return;
}
