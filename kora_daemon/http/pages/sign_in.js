'use strict'
document.getElementById('form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const problem = document.getElementById('problem')
  const token = document.getElementById('token')
  problem.textContent = ''
  try {
    const answer = await fetch('/__kora/sign-in', {
      method: 'POST',
      headers: { authorization: `Bearer ${token.value}` },
    })
    if (answer.ok) {
      location.reload()
      return
    }
    problem.textContent = answer.status === 401 ? 'That is not the admin token.' : `The daemon says ${answer.status}.`
  } catch {
    problem.textContent = 'The daemon does not answer, or the token has characters that no token has.'
  }
  token.select()
})
