// A worker with a file in the origin's private file system and memory that it shares, as SQLite in a browser has.
onmessage = async ({ data: shared }) => {
  const folder = await navigator.storage.getDirectory()
  const handle = await (await folder.getFileHandle('data', { create: true })).createSyncAccessHandle()
  handle.write(new TextEncoder().encode('kept'), { at: 0 })
  handle.flush()
  Atomics.store(new Int32Array(shared), 0, handle.getSize())
  handle.close()
  postMessage('done')
}
