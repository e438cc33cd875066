//! What a session's queue knows of the shared subscriptions that it is a member of.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use iotedge_ports::{ClientHandle, Delivery};

use crate::group::Group;

/// Made with a session's first shared subscription; most sessions have none.
pub(crate) struct Membership {
    /// The session's number.
    session: usize,
    groups: Mutex<Vec<Weak<Group>>>,
    /// What the session's window had room for when it was last looked at.
    window: AtomicUsize,
}

impl Membership {
    pub(super) fn new(session: usize, window: usize) -> Self {
        Self {
            session,
            groups: Mutex::new(Vec::new()),
            window: AtomicUsize::new(window),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, group: &Arc<Group>) {
        let mut groups = self.lock();
        if !groups
            .iter()
            .any(|known| known.as_ptr() == Arc::as_ptr(group))
        {
            groups.push(Arc::downgrade(group));
        }
    }

    pub(super) fn remove(&self, group: &Group) {
        self.lock()
            .retain(|known| !std::ptr::eq(known.as_ptr(), group));
    }

    /// Its groups, at this moment.
    pub(super) fn groups(&self) -> Vec<Arc<Group>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn arrive(&self, handle: &Arc<dyn ClientHandle>) {
        for group in self.groups() {
            group.arrive(self.session, handle);
        }
    }

    pub(super) fn depart(&self) {
        for group in self.groups() {
            group.depart(self.session);
        }
    }

    pub(super) fn window(&self) -> usize {
        self.window.load(Ordering::Relaxed)
    }

    pub(super) fn set_window(&self, free: usize) {
        self.window.store(free, Ordering::Relaxed);
    }

    /// What waits for the groups, for as much as the window takes. The group that was served
    /// first is the last the next time. `true`: there may be more.
    pub(super) fn pull(&self, most: usize, bytes: usize, out: &mut Vec<Delivery>) -> bool {
        let mut groups = self.lock();
        let mut left = most;
        let mut more = false;
        for at in 0..groups.len() {
            let Some(group) = groups.get(at).and_then(Weak::upgrade) else {
                continue;
            };
            if left == 0 {
                more = true;
                break;
            }
            let before = out.len();
            more |= group.pull(self.session, left, bytes, out);
            left = left.saturating_sub(out.len() - before);
        }
        if groups.len() > 1 {
            groups.rotate_left(1);
        }
        more
    }
}
