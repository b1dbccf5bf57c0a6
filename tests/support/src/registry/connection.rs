//! Connections that can be cut from within a handler, at a known byte.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Names one connection, for watching and cutting it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    stream: Arc<TcpStream>,
    written: watch::Sender<u64>,
}

impl Connection {
    /// Closes the connection without another byte.
    pub(super) fn cut(&self) {
        // A connection that the client closed already cannot be closed again.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Both);
    }

    /// Returns a future that is ready when `count` more bytes were written.
    pub(super) fn wrote(&self, count: usize) -> impl Future<Output = ()> + Send + use<> {
        let mut written = self.written.subscribe();
        let wanted = *written.borrow() + count as u64;
        async move { drop(written.wait_for(|written| *written >= wanted).await) }
    }
}

/// Accepts connections that can be cut.
pub(super) struct Listener(pub(super) TcpListener);

/// One accepted connection.
pub(super) struct Stream(Connection);

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        loop {
            if let Ok((stream, address)) = self.0.accept().await {
                let written = watch::Sender::new(0);
                return (Stream(Connection { stream: Arc::new(stream), written }), address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, Listener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().0.clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Handlers may hold the connection for longer.
        self.0.cut();
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.0.stream.poll_read_ready(cx))?;
            match self.0.stream.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            std::task::ready!(self.0.stream.poll_write_ready(cx))?;
            match self.0.stream.try_write(buf) {
                Ok(count) => {
                    self.0.written.send_modify(|written| *written += count as u64);
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&self.0.stream, rustix::net::Shutdown::Write).map_err(io::Error::from))
    }
}
