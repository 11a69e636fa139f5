# What a Perl program does to its heap: strings, arrays of arrays, hashes, splitting and sorting.
use strict;
use warnings;

my $count = shift;
my $state = 1;

sub below {
    my $bound = shift;
    $state = ($state * 1103515245 + 12345) % 2147483648;
    return int($state / 65536) % $bound;
}

my (%seen, @records);
for my $number (1 .. $count) {
    my $line = join ",", map { "word" . below(3000) } 1 .. 3 + below(10);
    my @fields = split /,/, $line;
    $seen{$_}++ for @fields;
    push @records, { number => $number, fields => \@fields, text => "x" x below(300) };
    splice @records, below(scalar @records), 1 if @records > 5000;
    delete $seen{ $fields[0] } if below(50) == 0;
}
my $sum = 0;
for my $record (sort { $a->{text} cmp $b->{text} || $a->{number} <=> $b->{number} } @records) {
    (my $changed = join " ", @{ $record->{fields} }) =~ s/word(\d+)/<$1>/g;
    $sum = ($sum * 31 + length($changed) + $record->{number}) % 1000003;
}
print "$sum ", scalar(keys %seen), " ", scalar(@records), "\n";
