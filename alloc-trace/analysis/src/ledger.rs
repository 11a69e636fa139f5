//! Every block followed from the request that obtained it to its release.
//!
//! All analyses that ask whose a block is go through here, so that they agree: on what is the
//! recorder's own, on what a filter picks, on releases that match no block, on blocks whose release is
//! missing, and on which allocations are temporary. The [module of the summary](crate::summary) says
//! what counts how.

mod account;
mod batch;
mod posting;

use alloc_trace_format::{EventKind, ReadError, RunEvent};

pub(crate) use self::account::{Account, How, Release};
use self::batch::{BATCH, Batch, Lead, Part};
pub(crate) use self::posting::{Posted, Posting};
use self::posting::{Standing, Whose};
use crate::live::LiveBlocks;
use crate::owners::{Owner, OwnerParts, Owners};
use crate::replay::{HeapRun, Prepared, Replay};
use crate::sites::Traced;

/// The blocks of a recording on their way through it, and the account that is kept of them.
#[derive(Debug)]
pub(crate) struct Ledger<A: Account> {
    pub(crate) account: A,
    pub(crate) owners: Owners,
    live: LiveBlocks<A::Held>,
    /// Whether a filter picks a part of the recording: then what is live was picked.
    filtered: bool,
    /// The block that each thread obtained last; 0 where there is none.
    last_obtained: Vec<u64>,
    batch: Batch,
    pub(crate) unmatched_frees: u64,
    pub(crate) unmatched_freed_bytes: u64,
    pub(crate) inferred_frees: u64,
    pub(crate) internal_events: u64,
}

impl<A: Account> Ledger<A> {
    pub(crate) fn new(account: A, replay: &Replay<'_>) -> Self {
        Self {
            account,
            owners: Owners::new(),
            live: LiveBlocks::new(A::NONE),
            filtered: replay.prepared.is_filtered(),
            last_obtained: vec![0; replay.prepared.definitions.threads.len()],
            batch: Batch::default(),
            unmatched_frees: 0,
            unmatched_freed_bytes: 0,
            inferred_frees: 0,
            internal_events: 0,
        }
    }

    /// Goes through the whole recording.
    pub(crate) fn run(account: A, replay: &mut Replay<'_>) -> Result<Self, ReadError> {
        let mut ledger = Self::new(account, replay);
        while ledger.go_on(replay)? {}
        Ok(ledger)
    }

    /// Goes on by some events; `false` at the end of the recording.
    pub(crate) fn go_on(&mut self, replay: &mut Replay<'_>) -> Result<bool, ReadError> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        loop {
            let room = batch.room();
            if room == 0 {
                break;
            }
            if let Some((run, prepared)) = replay.next_run(room) {
                let HeapRun { events, thread, internal, span, .. } = run;
                // There are no runs where there is a filter.
                let standing = if internal { Standing::Internal } else { Standing::Picked };
                let whose = Whose::new(thread, span, standing);
                if events.len() == BATCH {
                    // As nearly all are of a program that has one busy thread: they stay where they are.
                    self.take_whole_run(events, &mut batch.leads, whose, prepared);
                    self.batch = batch;
                    return Ok(true);
                }
                batch.events.extend_from_slice(events);
                batch.parts.push(Part::Run(batch.events.len(), whose));
            } else if replay.advance()? {
                let posting = Posting::of(replay.event(), &replay.prepared, &replay.spans);
                batch.parts.push(Part::Single(posting));
            } else {
                break;
            }
        }
        self.prepare(&mut batch, &replay.prepared);
        let mut begin = 0;
        for part in &batch.parts {
            match part {
                Part::Run(end, whose) => {
                    let run = begin..*end;
                    let events = batch.events.get(run.clone()).unwrap_or_default();
                    let leads = batch.leads.get(run).unwrap_or_default();
                    self.take_run(events, leads, *whose);
                    begin = *end;
                }
                Part::Single(posting) => self.take(posting),
            }
        }
        let any = !batch.parts.is_empty();
        self.batch = batch;
        Ok(any)
    }

    fn take_whole_run(
        &mut self,
        events: &[RunEvent],
        leads: &mut Vec<Lead>,
        whose: Whose,
        prepared: &Prepared<'_>,
    ) {
        self.live.reserve(events.len());
        let fetched = self.find_homes(events, leads) ^ self.trace(events, leads, whose, prepared);
        std::hint::black_box(fetched);
        self.take_run(events, leads, whose);
    }

    /// The blocks that are live.
    pub(crate) fn live(&self) -> impl Iterator<Item = (u64, &A::Held)> {
        self.live.iter()
    }

    /// Takes a block out that is live at an address, without its end.
    pub(crate) fn take_live(&mut self, address: u64) -> Option<A::Held> {
        self.live.remove(address)
    }

    /// Shows the account every block that is live, and its owner.
    pub(crate) fn close(&mut self, mut keep: impl FnMut(&mut A, OwnerParts, u64, &A::Held)) {
        for (address, held) in self.live.iter() {
            keep(&mut self.account, self.owners.get(A::owner(held)), address, held);
        }
    }

    /// Finds out whose the events are, and has the processor fetch what they will need.
    ///
    /// Each loop is so short that many accesses are under way at a time.
    fn prepare(&mut self, batch: &mut Batch, prepared: &Prepared<'_>) {
        // Till all of them are there no block's home is another.
        self.live.reserve(batch.events.len() + batch.parts.len());
        let mut fetched = self.find_homes(&batch.events, &mut batch.leads);
        let mut begin = 0;
        for part in &mut batch.parts {
            match part {
                Part::Run(end, whose) => {
                    let run = begin..*end;
                    let events = batch.events.get(run.clone()).unwrap_or_default();
                    let leads = batch.leads.get_mut(run).unwrap_or_default();
                    fetched ^= self.trace(events, leads, *whose, prepared);
                    begin = *end;
                }
                Part::Single(posting) => {
                    let released = posting.event.kind == EventKind::Realloc;
                    let Posted { address, old_address, .. } = posting.event;
                    let home = self.live.home(if released { old_address } else { address });
                    fetched ^= self.live.peek(home);
                    if posting.standing == Standing::Picked {
                        posting.owner = self.owners.number(self.account.parts(posting));
                        fetched ^= self.account.touch(posting.owner);
                    }
                }
            }
        }
        std::hint::black_box(fetched);
    }

    // A function for each loop: together they need more registers than there are.

    #[inline(never)]
    fn find_homes(&self, events: &[RunEvent], leads: &mut Vec<Lead>) -> u64 {
        let mut fetched = 0;
        leads.extend(events.iter().map(|event| {
            let home = self.live.home(event.address);
            fetched ^= self.live.peek(home);
            Lead { traced: Traced::NONE, owner: 0, home, entry: 0 }
        }));
        fetched
    }

    /// Finds out where the backtraces of a run lead, and whose its events are.
    fn trace(
        &mut self,
        events: &[RunEvent],
        leads: &mut [Lead],
        whose: Whose,
        prepared: &Prepared<'_>,
    ) -> u64 {
        for (event, lead) in events.iter().zip(&mut *leads) {
            lead.traced = prepared.traced(event.node);
        }
        if whose.standing == Standing::Picked { self.find_owners(events, leads, whose) } else { 0 }
    }

    #[inline(never)]
    fn find_owners(&mut self, events: &[RunEvent], leads: &mut [Lead], whose: Whose) -> u64 {
        let mut fetched = 0;
        for (event, lead) in events.iter().zip(leads) {
            let parts = self.account.parts(&lead.posting(event, whose));
            lead.owner = self.owners.number(parts);
            fetched ^= self.account.touch(lead.owner);
            if event.kind == EventKind::Free {
                let (entry, held) = self.live.glance(lead.home, event.address);
                lead.entry = entry;
                fetched ^= self.account.touch(A::owner(held));
            }
        }
        fetched
    }

    #[inline(never)]
    fn take_run(&mut self, events: &[RunEvent], leads: &[Lead], whose: Whose) {
        if whose.standing == Standing::Internal {
            for (event, lead) in events.iter().zip(leads) {
                self.take_internal(&lead.posting(event, whose));
            }
            return;
        }
        for (event, lead) in events.iter().zip(leads) {
            self.take_plain(event, lead, whose);
        }
    }

    /// What is done for an event of a run, as nearly all are: [`Self::take`] without what few have.
    #[inline(always)]
    fn take_plain(&mut self, event: &RunEvent, lead: &Lead, whose: Whose) {
        let &Lead { owner, home, entry, .. } = lead;
        let &RunEvent { address, .. } = event;
        // Made again where little is done: what is handed on has to lie in memory.
        let posting = lead.posting(event, whose);
        let parts = self.account.parts(&posting);
        if event.kind == EventKind::Free {
            self.account.made(owner, parts, &posting);
            match self.live.remove_seen(home, entry, address) {
                Some(held) => self.end(held, address, How::Freed, &posting),
                None => self.release_elsewhere(&lead.posting(event, whose)),
            }
            return;
        }
        let account = &mut self.account;
        let request = || account.requested(owner, parts, &posting);
        if !self.live.add_at_home(home, address, request) {
            self.account.made(owner, parts, &posting);
            self.obtain_elsewhere(&lead.posting(event, whose));
        }
        if let Some(last) = self.last_obtained.get_mut(whose.thread as usize) {
            *last = address;
        }
    }

    /// A block is obtained that has its place elsewhere than at its home, or at whose address one still seems to
    /// be live: the old one's end comes first.
    #[cold]
    fn obtain_elsewhere(&mut self, posting: &Posting) {
        let address = posting.event.address;
        let place = self.live.place(address).or_else(|| {
            self.replace(posting);
            self.live.place(address)
        });
        let held = self.account.obtained(posting.owner, self.account.parts(posting), posting);
        if let Some(place) = place {
            self.live.put(place, address, held);
        }
    }

    #[inline(never)]
    fn take(&mut self, posting: &Posting) {
        let Posting { event, standing, .. } = posting;
        if *standing == Standing::Internal {
            self.take_internal(posting);
            return;
        }
        let owner = if self.filtered && event.kind == EventKind::Free {
            self.owner_of_free(posting)
        } else {
            (*standing == Standing::Picked).then(|| (posting.owner, self.account.parts(posting)))
        };
        if let Some((owner, parts)) = owner {
            self.account.made(owner, parts, posting);
        }
        if event.failed {
            return;
        }
        match event.kind {
            EventKind::Free => {
                self.release(event.address, event.size, How::Freed, posting);
                return;
            }
            EventKind::Realloc => {
                self.release(event.old_address, event.old_size, How::Reallocated, posting);
            }
            EventKind::Alloc | EventKind::AllocZeroed => {}
        }
        match owner {
            Some((owner, parts)) => match self.live.place(event.address) {
                Some(place) => {
                    let held = self.account.obtained(owner, parts, posting);
                    self.live.put(place, event.address, held);
                }
                None => self.obtain_elsewhere(posting),
            },
            None => self.replace(posting),
        }
        // Also where the request is not picked: what its thread had obtained before it is no
        // temporary allocation any more.
        if let Some(last) = self.last_obtained.get_mut(posting.thread as usize) {
            *last = event.address;
        }
    }

    /// Who a free belongs to where there is a filter: nobody, unless its block was picked.
    #[cold]
    fn owner_of_free(&mut self, posting: &Posting) -> Option<(Owner, OwnerParts)> {
        self.live.has(posting.event.address).then(|| {
            let parts = self.account.parts(posting);
            let owner = self.owners.number(parts);
            std::hint::black_box(self.account.touch(owner));
            (owner, parts)
        })
    }

    /// The recorder's own threads release what is the program's only where the program handed it
    /// to them, as a name or a closure.
    #[cold]
    fn take_internal(&mut self, posting: &Posting) {
        self.internal_events += 1;
        let event = &posting.event;
        let address = match event.kind {
            EventKind::Free => event.address,
            EventKind::Realloc => event.old_address,
            EventKind::Alloc | EventKind::AllocZeroed => return,
        };
        if !event.failed
            && let Some(held) = self.live.remove(address)
        {
            let owner = self.owners.get(A::owner(&held));
            let how = How::ByRecorder;
            let release = Release { address, how, by: posting, temporary: false, owner };
            self.account.released(held, &release);
        }
    }

    /// The block of a free does not stand where it was seen, if it was.
    #[cold]
    fn release_elsewhere(&mut self, by: &Posting) {
        self.release(by.event.address, by.event.size, How::Freed, by);
    }

    fn release(&mut self, address: u64, size: u64, how: How, by: &Posting) {
        match self.live.remove(address) {
            Some(held) => self.end(held, address, how, by),
            None => self.release_unmatched(size, how, by),
        }
    }

    /// A block that was taken out has come to its end.
    #[inline(always)]
    fn end(&mut self, held: A::Held, address: u64, how: How, by: &Posting) {
        let owner = self.owners.get(A::owner(&held));
        let last = self.last_obtained.get_mut(owner.thread as usize);
        let last = last.filter(|last| **last == address);
        let temporary = how == How::Freed && last.is_some();
        if let Some(last) = last {
            *last = 0;
        }
        self.account.released(held, &Release { address, how, by, temporary, owner });
    }

    #[cold]
    fn release_unmatched(&mut self, size: u64, how: How, by: &Posting) {
        if !self.filtered {
            self.unmatched_frees += 1;
            self.unmatched_freed_bytes = self.unmatched_freed_bytes.saturating_add(size);
            if how == How::Freed {
                self.account.freed_unknown(by);
            }
        }
    }

    /// Ends the block that still seems to be live at the address of a new one, if any.
    #[cold]
    fn replace(&mut self, by: &Posting) {
        let address = by.event.address;
        let Some(held) = self.live.remove(address) else { return };
        self.inferred_frees += 1;
        let owner = self.owners.get(A::owner(&held));
        let release = Release { address, how: How::Replaced, by, temporary: false, owner };
        self.account.released(held, &release);
    }
}
