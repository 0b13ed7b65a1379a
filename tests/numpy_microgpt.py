"""microGPT's training step in float64 NumPy, forward and backward by hand: the truth that the tests compare with."""

import numpy as np


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def norm(x):
    """RMSNorm and what its backward needs."""
    scale = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
    return x * scale, scale


def norm_backward(dy, x, scale):
    return dy * scale - x * scale**3 * (dy * x).mean(-1, keepdims=True)


def loss_and_grads(w, ids, targets, n_head):
    """Mean cross-entropy of one name and its gradients; w: name -> float64 array, one layer."""
    T, C = len(ids), w["wte.weight"].shape[1]
    D = C // n_head
    layer = {
        key: w[f"layers.0.{key}.weight"] for key in ("attn.wq", "attn.wk", "attn.wv", "attn.wo", "mlp.fc1", "mlp.fc2")
    }
    wq, wk, wv, wo, fc1, fc2 = layer.values()

    embedded = w["wte.weight"][ids] + w["wpe.weight"][:T]
    x0, s0 = norm(embedded)
    n1, s1 = norm(x0)
    q, k, v = (n1 @ m.T for m in (wq, wk, wv))
    mixed, attention = np.zeros((T, C)), []
    for h in range(n_head):
        part = slice(h * D, (h + 1) * D)
        scores = np.where(np.tri(T, dtype=bool), q[:, part] @ k[:, part].T / np.sqrt(D), -np.inf)
        attention.append(softmax(scores))
        mixed[:, part] = attention[-1] @ v[:, part]
    x1 = x0 + mixed @ wo.T
    n2, s2 = norm(x1)
    before = n2 @ fc1.T
    bent = np.maximum(before, 0) ** 2
    x2 = x1 + bent @ fc2.T
    p = softmax(x2 @ w["lm_head.weight"].T)
    loss = -np.log(p[np.arange(T), targets]).mean()

    grads = {name: np.zeros_like(array) for name, array in w.items()}
    dlogits = (p - np.eye(p.shape[1])[targets]) / T
    grads["lm_head.weight"] = dlogits.T @ x2
    dx2 = dlogits @ w["lm_head.weight"]
    grads["layers.0.mlp.fc2.weight"] = dx2.T @ bent
    dbefore = dx2 @ fc2 * 2 * np.maximum(before, 0)
    grads["layers.0.mlp.fc1.weight"] = dbefore.T @ n2
    dx1 = dx2 + norm_backward(dbefore @ fc1, x1, s2)
    grads["layers.0.attn.wo.weight"] = dx1.T @ mixed
    dmixed = dx1 @ wo
    dq, dk, dv = np.zeros((T, C)), np.zeros((T, C)), np.zeros((T, C))
    for h in range(n_head):
        part = slice(h * D, (h + 1) * D)
        a = attention[h]
        da = dmixed[:, part] @ v[:, part].T
        dscores = a * (da - (da * a).sum(-1, keepdims=True)) / np.sqrt(D)
        dq[:, part], dk[:, part] = dscores @ k[:, part], dscores.T @ q[:, part]
        dv[:, part] = a.T @ dmixed[:, part]
    for name, d in (("wq", dq), ("wk", dk), ("wv", dv)):
        grads[f"layers.0.attn.{name}.weight"] = d.T @ n1
    dx0 = dx1 + norm_backward(dq @ wq + dk @ wk + dv @ wv, x0, s1)
    dembedded = norm_backward(dx0, embedded, s0)
    np.add.at(grads["wte.weight"], ids, dembedded)
    grads["wpe.weight"][:T] = dembedded
    return loss, grads


def train(w, examples, num_steps, learning_rate, n_head):
    """Losses of `num_steps` steps of Adam (0.9, 0.95, 1e-8, bias-corrected) with cosine decay; changes w in place."""
    m = {name: np.zeros_like(array) for name, array in w.items()}
    v = {name: np.zeros_like(array) for name, array in w.items()}
    losses = []
    for t in range(num_steps):
        loss, grads = loss_and_grads(w, *examples[t % len(examples)], n_head)
        rate = learning_rate * 0.5 * (1 + np.cos(np.pi * t / num_steps))
        for name, g in grads.items():
            m[name] += 0.1 * (g - m[name])
            v[name] += 0.05 * (g * g - v[name])
            corrected = m[name] / (1 - 0.9 ** (t + 1)), v[name] / (1 - 0.95 ** (t + 1))
            w[name] -= rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        losses.append(loss)
    return losses
