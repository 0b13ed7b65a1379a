# %% [markdown]
# # 15 · Reinforcement
#
# **Goal.** Let the model try, reward the replies that are right, and see what that can teach and what it cannot.
#
# | | |
# |---|---|
# | Needs | [14 · Tools and tasks](14_tools_and_tasks.ipynb) |
# | Time | 45 minutes to read, 0 for the exercises; two minutes to run |
# | Memory | under 1 GB |
# | You will build | |

# %% [markdown]
# ![Map of the course: chapter 15 reinforcement is marked, the third one of Part III; after 14 tools, before 16 serving](images/map_15.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · **15** · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/15_reinforcement.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %% [markdown]
# **Next:** [16 · Serving](16_serving.ipynb)
