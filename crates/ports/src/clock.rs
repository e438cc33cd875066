use iotedge_model::Now;

/// The clocks of the process. Only shells ask; the pure rooms get a [`Now`].
pub trait Clock: Send + Sync {
    /// One reading.
    fn now(&self) -> Now;
}
