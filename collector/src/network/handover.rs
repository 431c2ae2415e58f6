//! Listening sockets that stay open while one configuration takes over from another.
//!
//! In: sockets as they are bound. Out: the same sockets for whoever binds their address next.
//! Invariant: a socket is given to one taker in each reload; between the two takers the kernel
//! keeps connections waiting, so that nobody is refused.

use std::collections::HashMap;
use std::net::TcpListener as Socket;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;

struct Held {
    socket: Socket,
    is_taken: bool,
}

/// What is held, by address as it is written; `None` when nothing ever is.
static HELD: Mutex<Option<HashMap<String, Held>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<HashMap<String, Held>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to hold what is bound from now on: for programs that reload.
pub fn begin() {
    held().get_or_insert_default();
}

/// Offers every socket that is held to whoever binds its address next.
pub fn offer() {
    let mut held = held();
    let sockets = held.iter_mut().flat_map(HashMap::values_mut);
    sockets.for_each(|socket| socket.is_taken = false);
}

/// Closes the sockets that nobody has taken since [`offer`].
pub fn close_rest() {
    if let Some(sockets) = held().as_mut() {
        sockets.retain(|_, socket| socket.is_taken);
    }
}

pub(super) fn take(address: &str) -> Option<TcpListener> {
    let mut held = held();
    let found = held.as_mut()?.get_mut(address)?;
    if found.is_taken {
        return None;
    }
    let listener = TcpListener::from_std(found.socket.try_clone().ok()?).ok()?;
    found.is_taken = true;
    Some(listener)
}

pub(super) fn keep(address: &str, listener: &TcpListener) {
    let mut held = held();
    let Some(sockets) = held.as_mut().filter(|_| !address.ends_with(":0")) else {
        return;
    };
    // Without a second descriptor a reload binds anew, as without this module.
    if let Ok(socket) = listener.as_fd().try_clone_to_owned() {
        let held = Held {
            socket: socket.into(),
            is_taken: true,
        };
        sockets.insert(address.to_owned(), held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_given_to_one_taker_and_closed_without_one() {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap().to_string();
        keep(&address, &first);
        assert!(take(&address).is_none(), "nothing is held before it begins");
        begin();
        keep(&address, &first);
        assert!(take(&address).is_none(), "it was not offered yet");
        drop(first);
        offer();
        let waiting = std::net::TcpStream::connect(&address).unwrap();
        let second = take(&address).unwrap();
        assert!(take(&address).is_none(), "it was taken");
        let (_, from) = second.accept().await.unwrap();
        assert_eq!(from, waiting.local_addr().unwrap());
        drop(second);
        offer();
        close_rest();
        assert!(std::net::TcpStream::connect(&address).is_err());
    }
}
