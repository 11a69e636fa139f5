//! Programs that have a fault, and some that look like it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::recorded::age;
use crate::{one_line, recursions, threads};

/// How often each of them does what it does, unless it says otherwise.
pub(crate) const ROUNDS: u64 = 200;

/// A program by its name.
pub(crate) fn named(name: &str) -> fn() {
    match name {
        "boxed_value" => boxed_value,
        "boxed_in_a_callee" => boxed_in_a_callee,
        "boxed_between_other_requests" => boxed_between_other_requests,
        "boxed_for_another_thread" => boxed_for_another_thread,
        "boxed_for_the_next_call" => boxed_for_the_next_call,
        "boxed_for_the_next_round" => boxed_for_the_next_round,
        "boxed_tree" => recursions::boxed_tree,
        "short_text" => short_text,
        "grown_list" => grown_list,
        "reserved_list" => reserved_list,
        "buffer_a_round" => buffer_a_round,
        "buffer_of_all_rounds" => buffer_of_all_rounds,
        "forgotten" => forgotten,
        "table_kept_too_long" => table_kept_too_long,
        "list_that_stays_grown" => list_that_stays_grown,
        "list_that_shrinks" => list_that_shrinks,
        "list_reserved_that_stays" => list_reserved_that_stays,
        "list_dropped_in_time" => list_dropped_in_time,
        "boxed_shapes" => boxed_shapes,
        "boxed_shapes_for_a_worker" => boxed_shapes_for_a_worker,
        "boxed_shapes_in_few_rounds" => boxed_shapes_in_few_rounds,
        "list_of_small_boxes" => list_of_small_boxes,
        "boxed_for_a_worker_and_back" => boxed_for_a_worker_and_back,
        "kept_from_the_beginning" => kept_from_the_beginning,
        "table_dropped_in_time" => table_dropped_in_time,
        "list_of_small_values" => list_of_small_values,
        "formatted_text" => formatted_text,
        "list_of_one_that_grows" => list_of_one_that_grows,
        "boxed_trait" => boxed_trait,
        "shared_value" => shared_value,
        "forgotten_again_and_again" => forgotten_again_and_again,
        "few_made_at_the_beginning" => few_made_at_the_beginning,
        "small_part_kept_too_long" => small_part_kept_too_long,
        "text_that_grows" => text_that_grows,
        "table_from_empty" => table_from_empty,
        "table_reserved" => table_reserved,
        "text_replaced_by_longer" => text_replaced_by_longer,
        "keys_asked_by_value" => keys_asked_by_value,
        "keys_that_are_new" => keys_that_are_new,
        "words_of_a_text" => words_of_a_text,
        "few_words" => few_words,
        "channel_a_request" => channel_a_request,
        "one_channel" => one_channel,
        "map_of_few" => map_of_few,
        "boxed_in_their_like" => recursions::boxed_in_their_like,
        "list_in_each_call" => recursions::list_in_each_call,
        "threads_in_scopes" => threads::threads_in_scopes,
        "many_threads" => threads::many_threads,
        "shared_numbers" => one_line::shared_numbers,
        "boxes_in_a_list" => one_line::boxes_in_a_list,
        "texts_of_all_lengths" => texts_of_all_lengths,
        other => panic!("no program: {other}"),
    }
}

#[inline(never)]
fn make(number: u64) -> Box<[u64; 4]> {
    Box::new([number; 4])
}

#[inline(never)]
pub(crate) fn sum(values: &[u64]) -> u64 {
    black_box(values).iter().sum()
}

#[inline(never)]
fn boxed_value() {
    for number in 0..ROUNDS {
        let value = Box::new([number; 4]);
        black_box(sum(&*value));
    }
}

#[inline(never)]
fn boxed_in_a_callee() {
    for number in 0..ROUNDS {
        let value = make(number);
        black_box(sum(&*value));
    }
}

#[inline(never)]
fn boxed_between_other_requests() {
    for number in 0..ROUNDS {
        let value = make(number);
        let other: Vec<u64> = black_box((0..number + 1000).collect());
        black_box(sum(&*value) + sum(&other));
    }
}

#[inline(never)]
fn boxed_for_another_thread() {
    let (sender, receiver) = mpsc::sync_channel::<Box<[u64; 4]>>(1);
    let worker = thread::spawn(move || receiver.iter().map(|value| sum(&*value)).sum::<u64>());
    for number in 0..ROUNDS {
        sender.send(make(number)).expect("the worker listens");
    }
    drop(sender);
    black_box(worker.join().expect("the worker ends"));
}

thread_local! {
    static KEPT: RefCell<Option<Box<[u64; 4]>>> = const { RefCell::new(None) };
}

/// Keeps a new value where the next call finds it.
#[inline(never)]
fn keep(number: u64) {
    let value = make(number);
    KEPT.with_borrow_mut(|kept| *kept = Some(value));
    // Else the drop above is a jump, and this function's frame is gone by then.
    black_box(number);
}

/// The value outlives the call of `keep` that made it: two calls, from two places.
#[inline(never)]
fn boxed_for_the_next_call() {
    for number in 0..ROUNDS / 2 {
        keep(2 * number);
        // Else the two could become one.
        black_box(number);
        keep(2 * number + 1);
    }
    KEPT.take();
}

/// The known limit: as above, but all calls come from one place and nothing else happens there.
#[inline(never)]
fn boxed_for_the_next_round() {
    for number in 0..ROUNDS {
        keep(number);
    }
    KEPT.take();
}

#[inline(never)]
fn short_text() {
    for number in 0..ROUNDS {
        let text = String::from_utf8(vec![b'x'; 8 + number as usize % 9]).expect("ASCII");
        black_box(text.as_str());
    }
}

#[inline(never)]
fn grown_list() {
    for _ in 0..ROUNDS {
        let mut list = Vec::new();
        for number in 0..500_u64 {
            list.push(number);
        }
        black_box(sum(&list));
    }
}

#[inline(never)]
fn reserved_list() {
    for _ in 0..ROUNDS {
        let mut list = Vec::with_capacity(500);
        for number in 0..500_u64 {
            list.push(number);
        }
        black_box(sum(&list));
    }
}

#[inline(never)]
fn buffer_a_round() {
    for number in 0..ROUNDS {
        let mut buffer = vec![0_u64; 4096];
        buffer[black_box(7)] = number;
        black_box(sum(&buffer));
    }
}

#[inline(never)]
fn buffer_of_all_rounds() {
    let mut buffer = vec![0_u64; 4096];
    for number in 0..ROUNDS {
        buffer[black_box(7)] = number;
        black_box(sum(&buffer));
    }
}

#[inline(never)]
fn forgotten() {
    for number in 0..ROUNDS {
        black_box(Box::leak(make(number)));
    }
}

/// Does nothing for so long at least, and for far longer than the program has run so far, however slow the machine is.
#[inline(never)]
fn idle(least: Duration) {
    thread::sleep(least.max(20 * age()));
}

#[inline(never)]
fn table_kept_too_long() {
    let table: Vec<u64> = Vec::with_capacity(10_000);
    black_box(&table);
    idle(FOR_LONG);
    drop(table);
}

#[inline(never)]
fn list_of_small_boxes() {
    let list: HashMap<u64, Box<u64>> =
        (0..10 * ROUNDS).map(|number| (number, Box::new(number))).collect();
    black_box(list.len());
}

/// Longer than everything after it, too.
const FOR_LONG: Duration = Duration::from_secs(2);

#[inline(never)]
fn numbers(mut list: Vec<u64>) -> Vec<u64> {
    for number in 0..5_000 {
        list.push(number);
    }
    black_box(list)
}

/// Room for 8,192 numbers, of which 5,000 are there.
#[inline(never)]
fn list_that_stays_grown() {
    let list = numbers(Vec::new());
    idle(FOR_LONG);
    black_box(sum(&list));
}

#[inline(never)]
fn list_that_shrinks() {
    let mut list = numbers(Vec::new());
    list.shrink_to_fit();
    idle(FOR_LONG);
    black_box(sum(&list));
}

/// As large, but nothing of it has grown.
#[inline(never)]
fn list_reserved_that_stays() {
    let list = numbers(Vec::with_capacity(5_000));
    idle(FOR_LONG);
    black_box(sum(&list));
}

#[inline(never)]
fn list_dropped_in_time() {
    black_box(sum(&numbers(Vec::new())));
    idle(FOR_LONG);
}

trait Shape: Send {
    fn area(&self) -> u64;
}

struct Square(u64);

struct Rectangle(u64, u64);

impl Shape for Square {
    fn area(&self) -> u64 {
        self.0 * self.0
    }
}

impl Shape for Rectangle {
    fn area(&self) -> u64 {
        self.0 * self.1
    }
}

#[inline(never)]
fn shape(number: u64) -> Box<dyn Shape> {
    match number % 2 {
        0 => Box::new(Square(number)),
        _ => Box::new(Rectangle(number, 2)),
    }
}

/// More than an array in a frame would hold, and far from a thousand at a time.
#[inline(never)]
fn drawing() -> Vec<Box<dyn Shape>> {
    (0..80).map(shape).collect()
}

#[inline(never)]
fn boxed_shapes() {
    for _ in 0..ROUNDS {
        black_box(drawing().iter().map(|shape| shape.area()).sum::<u64>());
    }
}

/// As many, but they go elsewhere: what is by value in a list is moved there as a whole, or not at all.
#[inline(never)]
fn boxed_shapes_for_a_worker() {
    let (sender, receiver) = mpsc::sync_channel::<Vec<Box<dyn Shape>>>(1);
    let worker = thread::spawn(move || receiver.iter().map(|shapes| shapes.len()).sum::<usize>());
    for _ in 0..ROUNDS {
        sender.send(drawing()).expect("the worker listens");
    }
    drop(sender);
    black_box(worker.join().expect("the worker ends"));
}

#[inline(never)]
fn boxed_shapes_in_few_rounds() {
    for _ in 0..10 {
        black_box(drawing().iter().map(|shape| shape.area()).sum::<u64>());
    }
}

/// Every value is freed by the thread that made it, whoever read it.
#[inline(never)]
fn boxed_for_a_worker_and_back() {
    let (sender, receiver) = mpsc::sync_channel::<Box<[u64; 4]>>(1);
    let (back, returned) = mpsc::sync_channel::<Box<[u64; 4]>>(1);
    let worker = thread::spawn(move || {
        for value in receiver {
            black_box(sum(&*value));
            back.send(value).expect("the maker listens");
        }
    });
    for number in 0..ROUNDS {
        sender.send(make(number)).expect("the worker listens");
        drop(returned.recv().expect("it comes back"));
    }
    drop(sender);
    worker.join().expect("the worker ends");
}

/// A table of the first values is kept to the end, and all that follow are dropped.
#[inline(never)]
fn kept_from_the_beginning() {
    let mut kept = Vec::with_capacity(ROUNDS as usize);
    for number in 0..10 * ROUNDS {
        let value = make(number);
        if number < ROUNDS {
            kept.push(value);
        } else {
            black_box(sum(&*value));
        }
    }
    std::mem::forget(black_box(kept));
}

/// As long as the one that is kept, and dropped when it is of no use any more.
#[inline(never)]
fn table_dropped_in_time() {
    let table: Vec<u64> = Vec::with_capacity(10_000);
    drop(black_box(table));
    idle(Duration::from_millis(300));
}

#[inline(never)]
fn list_of_small_values() {
    let list: HashMap<u64, u64> = (0..10 * ROUNDS).map(|number| (number, number)).collect();
    black_box(list.len());
}

#[inline(never)]
fn formatted_text() {
    for number in 0..ROUNDS {
        let text = format!("number {}", black_box(number));
        black_box(text.as_str());
    }
}

#[inline(never)]
fn list_of_one_that_grows() {
    for number in 0..ROUNDS {
        let mut list = Vec::from([number]);
        for number in 0..500_u64 {
            list.push(number);
        }
        black_box(sum(&list));
    }
}

/// One call site, whatever the type is.
#[inline(never)]
fn boxed_function(function: impl Fn() -> u64 + 'static) -> Box<dyn Fn() -> u64> {
    Box::new(function)
}

#[inline(never)]
fn boxed_trait() {
    for number in 0..ROUNDS {
        let wide = black_box([number; 3]);
        black_box(match number % 2 {
            0 => boxed_function(move || number),
            _ => boxed_function(move || wide.iter().sum()),
        }());
    }
}

#[inline(never)]
fn shared_value() {
    for number in 0..ROUNDS {
        let value = Rc::new([number; 4]);
        black_box(sum(&*Rc::clone(&value)));
    }
}

/// For as long as the program runs, in place of at one time.
#[inline(never)]
fn forgotten_again_and_again() {
    for number in 0..ROUNDS {
        black_box(Box::leak(make(number)));
        thread::sleep(Duration::from_millis(5));
    }
}

/// As a static would be filled.
#[inline(never)]
fn few_made_at_the_beginning() {
    for number in 0..20 {
        black_box(Box::leak(make(number)));
    }
    idle(Duration::from_millis(300));
}

/// As late as the table that is found, but little of what the program holds.
#[inline(never)]
fn small_part_kept_too_long() {
    let much: Vec<u64> = Vec::with_capacity(1_000_000);
    drop(black_box(much));
    let table: Vec<u64> = Vec::with_capacity(10_000);
    black_box(&table);
    idle(FOR_LONG);
    drop(table);
}

#[inline(never)]
fn text_that_grows() {
    for _ in 0..ROUNDS {
        let mut text = String::new();
        (0..500).for_each(|_| text.push('x'));
        black_box(text.as_str());
    }
}

#[inline(never)]
fn table_from_empty() {
    for _ in 0..ROUNDS {
        let mut table = HashMap::new();
        for number in 0..100_u64 {
            table.insert(number, number);
        }
        black_box(table.len());
    }
}

#[inline(never)]
fn table_reserved() {
    for _ in 0..ROUNDS {
        let mut table = HashMap::with_capacity(100);
        for number in 0..100_u64 {
            table.insert(number, number);
        }
        black_box(table.len());
    }
}

/// A larger block is made and the smaller one freed right after it, but nothing grew.
#[inline(never)]
fn text_replaced_by_longer() {
    let mut text = String::new();
    for number in 0..ROUNDS as usize {
        text = "x".repeat(40 + number % 2 + number / 20);
        black_box(text.as_str());
    }
    drop(text);
}

/// A key is made of every word, and one in fifty is kept.
#[inline(never)]
fn keys_asked_by_value() {
    let words: Vec<String> = (0..40).map(|number| format!("word {number}")).collect();
    let mut counts: HashMap<String, u64> = HashMap::with_capacity(100);
    for number in 0..10 * ROUNDS as usize {
        *counts.entry(words[number % words.len()].clone()).or_default() += 1;
    }
    black_box(counts.len());
}

#[inline(never)]
fn keys_that_are_new() {
    let mut counts: HashMap<String, u64> = HashMap::with_capacity(5000);
    for number in 0..10 * ROUNDS {
        *counts.entry(format!("word {number}")).or_default() += 1;
    }
    black_box(counts.len());
}

/// Five words, as a text has them.
const TEXT: &str = "some words of several lengths";

/// The list and its texts are of one call site.
#[inline(never)]
fn words_of_a_text() {
    let of_text: Vec<String> = TEXT.split(' ').map(str::to_owned).collect();
    let mut words = Vec::new();
    for number in 0..10 * ROUNDS as usize {
        words.push(of_text[number % of_text.len()].clone());
    }
    black_box(words.len());
}

#[inline(never)]
fn few_words() {
    for _ in 0..10 {
        let words: Vec<String> = TEXT.split(' ').cycle().take(200).map(str::to_owned).collect();
        black_box(words.len());
    }
}

#[inline(never)]
fn channel_a_request() {
    for number in 0..ROUNDS {
        let (sender, receiver) = mpsc::channel();
        sender.send(number).expect("it listens");
        black_box(receiver.recv().expect("sent"));
    }
}

#[inline(never)]
fn one_channel() {
    let (sender, receiver) = mpsc::channel();
    for number in 0..ROUNDS {
        sender.send(number).expect("it listens");
        black_box(receiver.recv().expect("sent"));
    }
}

#[inline(never)]
fn map_of_few() {
    for number in 0..ROUNDS {
        let mut map = BTreeMap::new();
        for key in 0..5_u64 {
            map.insert(black_box(key), number);
        }
        black_box(map.len());
    }
}

#[inline(never)]
fn texts_of_all_lengths() {
    for number in 0..ROUNDS as usize {
        let text = "x".repeat(100 + 37 * (number % 50));
        black_box(text.as_str());
    }
}
