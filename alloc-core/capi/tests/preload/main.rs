//! The library preloaded into C, C++ and unmodified programs. Each rule of `tests/programs` is a
//! test of the same name here, in a process of its own.

mod library;
#[cfg(feature = "valgrind")]
mod memcheck;
mod process;
mod programs;
mod symbols;

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use library::{OPERATORS, PLUGIN, REPLACED, RULES};
use process::{Outcome, run_preloaded};

type Program = LazyLock<Option<PathBuf>>;

/// Follows a rule of a program; `None` if the program could not be compiled.
fn follow(program: &Program, rule: &str) -> Option<Outcome> {
    let mut command = Command::new(program.as_ref()?);
    if let Some(plugin) = &*PLUGIN {
        command.env("PLUGIN", plugin);
    }
    Some(run_preloaded(command.arg(rule)))
}

/// A test for each rule of a program, and one that no rule of the program is left out.
macro_rules! rules {
    ($module:ident, $program:expr, $($rule:ident $(ends with $end:expr)?),* $(,)?) => {
        mod $module {
            use super::*;

            $(#[test]
            fn $rule() {
                let Some(outcome) = follow($program, stringify!($rule)) else { return };
                #[allow(unused_variables, reason = "another end is given for some rules")]
                let end: fn(&Outcome) -> bool = |outcome| outcome.status.success();
                $(let end: fn(&Outcome) -> bool = $end;)?
                assert!(end(&outcome), "{outcome:?}");
            })*

            #[test]
            fn no_rule_is_left_out() {
                let Some(program) = $program.as_ref() else { return };
                let listed = run_preloaded(&mut Command::new(program)).stdout;
                assert_eq!(listed.lines().collect::<Vec<_>>(), [$(stringify!($rule)),*]);
            }
        }
    };
}

/// The program says an address, and is ended by an abort that says the same one.
fn abort_names_the_address(outcome: &Outcome) -> bool {
    let mut lines = outcome.stderr.lines();
    let address = lines.next().and_then(|line| line.strip_prefix("0x"));
    let said = lines.next().filter(|line| line.starts_with("alloc-core: "));
    let named = address.zip(said).is_some_and(|(address, said)| said.contains(address));
    named && outcome.status.signal() == Some(libc::SIGABRT)
}

rules! {
    malloc, &RULES,
    every_block_is_aligned_to_16_bytes,
    requests_of_no_bytes_get_blocks_of_their_own,
    absurd_sizes_are_refused_with_enomem,
    products_that_overflow_are_refused_with_enomem,
    calloc_gives_zeros_also_where_others_wrote,
    realloc_to_nothing_frees_and_returns_null,
    realloc_keeps_the_contents,
    blocks_that_shrink_give_memory_back,
    posix_memalign_refuses_odd_alignments_with_einval,
    posix_memalign_keeps_every_alignment,
    memalign_rounds_odd_alignments_up,
    aligned_blocks_are_blocks_like_others,
    valloc_and_pvalloc_align_to_pages,
    all_usable_bytes_can_be_used,
    errno_is_left_alone_where_nothing_fails,
    the_c_librarys_own_blocks_come_from_here,
    every_other_name_leads_to_the_same_heap,
    trimming_gives_memory_back,
    mallinfo_counts_live_bytes,
    small_requests_get_larger_blocks_when_memory_is_out,
    a_block_freed_twice_in_a_row_ends_the_process ends with abort_names_the_address,
    a_block_freed_twice_with_others_between_ends_the_process ends with abort_names_the_address,
    a_foreign_address_is_named_and_ends_the_process ends with abort_names_the_address,
    a_large_address_is_named_and_ends_the_process ends with abort_names_the_address,
    a_program_can_limit_itself_before_its_first_request,
    a_program_can_limit_itself_while_it_runs,
    many_threads_of_few_blocks_take_little_memory,
    threads_can_be_tried_when_memory_is_out,
    threads_have_what_was_freed_when_memory_was_out,
    threads_find_memory_out_at_their_first_request,
    a_child_of_a_threaded_process_goes_on,
    programs_are_started_while_threads_allocate,
    ending_threads_allocate_and_leave_blocks,
    a_signal_handler_can_allocate,
    blocks_are_freed_by_other_threads,
    blocks_far_from_the_first_are_blocks_like_them,
    libraries_come_and_go_with_their_thread_locals,
    blocks_live_from_before_main_until_after_it,
    no_thread_of_the_heaps_stays_another_users,
    a_user_namespace_can_be_entered_whatever_the_heap_does,
}

rules! {
    operators, &OPERATORS,
    blocks_of_all_forms_are_this_heaps,
    every_alignment_is_kept,
    an_alignment_that_is_none_throws,
    the_new_handler_is_asked_until_it_gives_up,
    the_new_handler_can_make_room,
    refused_requests_throw_or_return_null,
    a_program_of_many_parts_works,
}

rules! {
    replaced_operators, &REPLACED,
    all_forms_go_through_the_programs_own,
    refused_requests_throw_or_return_null,
    a_program_of_many_parts_works,
}
