"""The MuZero-style agent that learns to play games of `agents.games` by searching in them.

`observation` what its network sees; `network` representation, dynamics and prediction; `guide` and
`latent_model` bring the network into a search, in the exact rules or in learned dynamics; `self_play`,
`replay`, `losses` and `training` teach it. `games` ties each game to all that.
"""
