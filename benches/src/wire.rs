//! No broker at all: what one publisher writes at QoS 0 goes to one subscriber as it is. The rate
//! over it is the most that the load itself can measure on a machine.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;

/// Serves until a client's connection cannot be accepted. The subscriber comes first.
pub fn serve(listener: &TcpListener) -> io::Result<()> {
    let subscriber = Mutex::new(None);
    thread::scope(|scope| {
        loop {
            let (stream, _) = listener.accept()?;
            // A client that goes away ends its thread only.
            scope.spawn(|| client(stream, &subscriber).ok());
        }
    })
}

fn client(mut stream: TcpStream, subscriber: &Mutex<Option<TcpStream>>) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    stream.set_nodelay(true)?;
    if stream.read(&mut buffer)? == 0 {
        return Ok(());
    }
    stream.write_all(&[0x20, 2, 0, 0])?;
    let mut read = stream.read(&mut buffer)?;
    let poisoned = |_| io::Error::from(io::ErrorKind::Other);
    if buffer[0] == 0x82 {
        stream.write_all(&[0x90, 3, 0, 1, 0])?;
        *subscriber.lock().map_err(poisoned)? = Some(stream);
        return Ok(());
    }
    let taken = subscriber.lock().map_err(poisoned)?.take();
    let mut target = taken.ok_or(io::ErrorKind::NotConnected)?;
    while read > 0 {
        target.write_all(&buffer[..read])?;
        read = stream.read(&mut buffer)?;
    }
    // The subscriber stays connected until it has counted.
    while target.read(&mut buffer)? > 0 {}
    Ok(())
}
