use iotedge_model::{Now, UnixMillis};

/// The clocks of the process. Only shells ask; the pure rooms get a [`Now`].
pub trait Clock: Send + Sync {
    /// One reading.
    fn now(&self) -> Now;

    /// A time that is certainly over, whatever [`Clock::now`] says: the latest that a trusted clock has
    /// shown, over restarts too.
    fn floor(&self) -> UnixMillis {
        UnixMillis(0)
    }

    /// Something was refused because this time is over: [`Clock::floor`] is to say so from now on, also
    /// after a loss of power. Never blocks.
    fn remember(&self, over: UnixMillis) {
        let _ = over;
    }
}
