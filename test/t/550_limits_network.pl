# A network that delays each request by another time, stands still at times, and an account that others use as well: the
# API refuses some requests by its limit, which it counts at arrival.  No call fails, and everything is created, once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use ScreenshotTaskTest;
use Test::More;

use constant { ROWS => 60, SESSIONS => 5, CALLS => 4 };

my %networks = (
	'delays'   => { delay => [ 0, 0.05 ] },
	'stalls'   => { stall => [ 0.3, 1.5 ] },
	'company'  => { delay => [ 0, 0.01 ], others => 12 });
my $api  = LiveApi->new;
my $node = ScreenshotTaskTest->start_new('main');

$node->add_server('tencent_live', $api);
for my $name (sort keys %networks)
{
	$api->order(network => $networks{$name});
	my @sessions = map {
		my $session = $_;
		$node->begin(join '', map { call_sql(stream_name => "$name, session $session, call $_") } 1 .. CALLS)
	} 1 .. SESSIONS;
	$node->safe_psql('postgres', insert_sql(rows => ROWS, stream_name => \"'$name, row ' || i"));
	my @results = map { $_->end } @sessions;
	ok($node->wait_for_table("status = 'created' AND attempts = 1"), "$name: all requests are created, at the first attempt that counts");
	is_deeply([ grep { defined } map { $_->{error} } @results ], [], "$name: no call fails");
	my @tasks = grep { $_->{stream_name} =~ /^\Q$name\E, / } $api->ledger;
	is_deeply([ sort map { $_->{stream_name} } @tasks ],
		[ sort((map { "$name, row $_" } 1 .. ROWS), map { my $s = $_; map { "$name, session $s, call $_" } 1 .. CALLS } 1 .. SESSIONS) ],
		"$name: each has become one task");
	is_deeply([ sort map { $_->[0] } map { @{ $_->{rows} } } @results ],
		[ sort map { $_->{task_id} } grep { $_->{stream_name} =~ /session/ } @tasks ], "$name: the TaskIds that the calls returned are the ledger's");
	my @refused = grep { $_->{stream_name} =~ /^\Q$name\E, / } $api->requests(outcome => 'RequestLimitExceeded');
	cmp_ok(scalar @refused, '>', 0, 'company: some were refused') if $name eq 'company';
	note(scalar @refused . " refused: $name");
}
is($api->complaints, '', 'the stand-in has nothing to complain of');

done_testing();
